"""Models as coarse as a small picture shows them: without a GPU, time goes by faces, not pixels."""

from __future__ import annotations

import ctypes
import mmap
import sys
from copy import copy
from threading import Lock

import fast_simplification
import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

SMALLEST_SEEN = 0.1  # metres across a picture of what is closest to a camera
ARM_SEEN = 0.4  # the same of the one arm: the camera in its hand looks away from it
TEXELS_A_PIXEL = 4  # a texture is seen in parts
SIDES, LAYERS, SQUARES = 16, 8, 2  # of cylinders and spheres; along the edge of a box
FOR_COLLISIONS = ("bvh_aabb", "mesh_graph", "mesh_polynormal")  # the large ones
# In the square of which fast-simplification measures what it calls lossless.
UNIT = float(np.sqrt(np.finfo(np.float64).eps))

_one_at_a_time = Lock()  # fast-simplification keeps the mesh in globals

Vertices = Float[np.ndarray, "vertices 3"]  # metres
Merged = Int[np.ndarray, " vertices"]  # for every vertex, which of the places it is now, or -1
Places = Float[np.ndarray, "places 3"]
Faces = Int[np.ndarray, "faces 3"]


def coarse_model(model: mujoco.MjModel, size: int) -> mujoco.MjModel:
    """Return a copy for pictures of `size` pixels, with the same bodies, geoms, cameras, colours.

    Meshes are off by a pixel at most where they fill a picture. It is not for physics.
    """
    model = copy(model)
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    quality = model.vis.quality
    quality.offsamples = 0
    quality.numslices, quality.numstacks, quality.numquads = SIDES, LAYERS, SQUARES
    model.mesh_graphadr[:] = -1  # convex hulls, of the vertices of before
    for name in FOR_COLLISIONS:
        give_back(getattr(model, name))
    across = _seen_across(model)
    with _one_at_a_time:
        for mesh in range(model.nmesh):
            _simplify_mesh(model, mesh, size, across[mesh])
    for texture in range(model.ntex):
        _shrink_texture(model, texture, TEXELS_A_PIXEL * size)
    return model


def _seen_across(model: mujoco.MjModel) -> Float[np.ndarray, " meshes"]:
    """Return what a picture at least shows across where a mesh is closest to a camera, metres."""
    moving = {body for body in model.cam_bodyid.tolist() if model.body_weldid[body]}
    hands = {b for b in range(model.nbody) if moving.intersection(_lineage(model, b))}
    roots = model.body_rootid[list(moving)]
    arm = np.isin(model.body_rootid, roots) & ~np.isin(np.arange(model.nbody), list(hands))
    across = np.full(model.nmesh, ARM_SEEN)
    of_meshes = model.geom_type == mujoco.mjtGeom.mjGEOM_MESH
    elsewhere = of_meshes & ~arm[model.geom_bodyid]
    across[model.geom_dataid[elsewhere]] = SMALLEST_SEEN
    return across


def _lineage(model: mujoco.MjModel, body: int) -> set[int]:
    """Return the body and what carries it."""
    found = {body}
    while body:
        body = int(model.body_parentid[body])
        found.add(body)
    return found


def _simplify_mesh(model: mujoco.MjModel, mesh: int, size: int, across: float) -> None:
    """Give a mesh of the model fewer vertices and faces; corners keep their normals and places in
    the texture.
    """
    start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    vertices = model.mesh_vert[start : start + count]
    start, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    corners = [
        each[start : start + count]
        for each in (model.mesh_face, model.mesh_facenormal, model.mesh_facetexcoord)
    ]
    extent = max(float(np.ptp(vertices, axis=0).max()), across)
    places, merged = simplify(vertices, corners[0], extent / size)
    faces = merged[corners[0]]
    kept = are_triangles(faces)
    model.mesh_facenum[mesh] = kept.sum()
    vertices[: len(places)] = places
    give_back(vertices[len(places) :])
    for rows, simple in zip(corners, (faces, *corners[1:]), strict=True):
        rows[: kept.sum()] = simple[kept]
        give_back(rows[kept.sum() :])


def simplify(vertices: Vertices, faces: Faces, tolerance: float) -> tuple[Places, Merged]:
    """Merge vertices of a mesh where that moves its surface by about `tolerance` metres at most.

    First those that share a cell of a grid, which joins what was modelled apart; then by quadric
    errors (Garland and Heckbert 1997).
    """
    _, first, merged = np.unique(
        np.round(vertices / tolerance), axis=0, return_index=True, return_inverse=True
    )
    merged = merged.reshape(-1)
    welded = merged[faces]
    welded = np.ascontiguousarray(welded[are_triangles(welded)], np.int32)
    if not len(welded):
        return vertices[:0], np.full(len(vertices), -1)
    scale = UNIT / tolerance
    scaled = vertices[first].astype(np.float64) * scale
    *_, collapses = fast_simplification.simplify(
        scaled, welded, lossless=True, return_collapses=True
    )
    places, _, numbers = fast_simplification.replay_simplification(scaled, welded, collapses)
    merged = numbers[merged]
    return _within(places / scale, vertices, merged), merged


def _within(places: Places, vertices: Vertices, merged: Merged) -> Places:
    """Return places moved into the boxes around what was merged there: quadrics of what is nearly
    flat have minima far away.
    """
    low, high = np.full(places.shape, np.inf), np.full(places.shape, -np.inf)
    left = merged >= 0
    np.minimum.at(low, merged[left], vertices[left])
    np.maximum.at(high, merged[left], vertices[left])
    return np.clip(places, low, high)


def are_triangles(faces: Faces) -> Bool[np.ndarray, " faces"]:
    """Tell which faces have three different vertices, all of them there."""
    a, b, c = faces.T
    return (a != b) & (b != c) & (c != a) & (faces >= 0).all(axis=1)


def _shrink_texture(model: mujoco.MjModel, texture: int, largest: int) -> None:
    """Average a texture of the model down to `largest` texels a side; of a cube there are
    six, or one for all."""
    start, channels = model.tex_adr[texture], model.tex_nchannel[texture]
    height, width = model.tex_height[texture], model.tex_width[texture]
    texels = model.tex_data[start : start + height * width * channels]
    flat = model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_2D
    sides = 1 if flat else height // width
    small = shrunk(texels.reshape(sides, height // sides, width, channels), largest)
    texels[: small.size] = small.reshape(-1)
    give_back(texels[small.size :])
    model.tex_height[texture], model.tex_width[texture] = sides * small.shape[1], small.shape[2]


def shrunk(
    pictures: UInt8[np.ndarray, "n height width channels"], largest: int
) -> UInt8[np.ndarray, "n low narrow channels"]:
    """Return pictures averaged over squares, such that none is wider or higher than `largest`."""
    n, height, width, channels = pictures.shape
    square = -(-max(height, width) // largest)
    rows, columns = max(1, height // square), max(1, width // square)
    cut = pictures[:, : rows * square, : columns * square]
    blocks = cut.reshape(n, rows, cut.shape[1] // rows, columns, cut.shape[2] // columns, channels)
    return blocks.mean(axis=(2, 4)).round().astype(np.uint8)


def give_back(array: np.ndarray) -> None:
    """Let the system have the memory of a part of a large array that nobody reads any more: whole
    pages of it become zero. Nothing happens where the system is not Linux.

    MuJoCo's models have one size for ever: 270 MB for a scene of LIBERO, most of it textures.
    """
    page, start = mmap.PAGESIZE, array.ctypes.data
    first, end = -(-start // page) * page, (start + array.nbytes) // page * page
    if sys.platform == "linux" and end > first:
        libc = ctypes.CDLL(None)
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED)
