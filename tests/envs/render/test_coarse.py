import sys

import mujoco
import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.render.coarse import (
    SMALLEST_SEEN,
    are_triangles,
    coarse_model,
    give_back,
    shrunk,
    simplify,
)


def ball(radius, around, up):
    """Vertices and faces of a ball, `around` x `up` squares."""
    angle, height = np.meshgrid(2 * np.pi * np.arange(around) / around, np.linspace(0, np.pi, up))
    vertices = radius * np.stack(
        [np.cos(angle) * np.sin(height), np.sin(angle) * np.sin(height), np.cos(height)], axis=-1
    )
    number = np.arange(up * around).reshape(up, around)
    a, b = number[:-1], number[1:]
    c, d = np.roll(b, -1, axis=1), np.roll(a, -1, axis=1)
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return vertices.reshape(-1, 3).astype(np.float32), faces.astype(np.int32)


def volume(vertices, faces):
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return np.einsum("ij,ij->", a, np.cross(b, c)) / 6


@pytest.mark.parametrize("tolerance", [0.0005, 0.002])
def test_simplify_keeps_the_surface_within_its_tolerance(tolerance):
    radius = 0.1
    vertices, faces = ball(radius, 120, 60)
    places, merged = simplify(vertices, faces, tolerance)
    simple = merged[faces]
    simple = simple[are_triangles(simple)]
    assert len(simple) < len(faces) / 4
    assert len(np.unique(simple)) == len(places)
    assert np.abs(np.linalg.norm(places, axis=1) - radius).max() < 2 * tolerance
    centres = places[simple].mean(axis=1)
    assert np.abs(np.linalg.norm(centres, axis=1) - radius).max() < 3 * tolerance
    assert volume(places, simple) == pytest.approx(volume(vertices, faces), rel=0.05)


def test_simplify_leaves_nothing_of_what_is_smaller():
    places, merged = simplify(*ball(0.001, 12, 6), tolerance=0.01)
    assert places.shape == (0, 3)
    assert set(merged) == {-1}


def test_shrunk_averages_squares():
    picture = np.arange(2 * 4 * 6 * 1, dtype=np.uint8).reshape(2, 4, 6, 1)
    small = shrunk(picture, 3)
    assert small.shape == (2, 2, 3, 1)
    assert small[0, 0, 0, 0] == round((0 + 1 + 6 + 7) / 4)
    np.testing.assert_array_equal(shrunk(picture, 6), picture)


def test_coarse_model_has_fewer_corners_where_no_camera_comes_close(simulator_of, monkeypatch):
    """Of the arm that carries a camera, but not of the hand, nor of objects."""
    model = simulator_of(TASKS["square"]).picture_model
    coarse = coarse_model(model, 84)
    monkeypatch.setattr("reconverge.envs.render.coarse.ARM_SEEN", SMALLEST_SEEN)
    fewer = coarse.mesh_facenum < coarse_model(model, 84).mesh_facenum
    bodies = {model.body(model.geom_bodyid[g]).name for g in of_meshes(model, fewer)}
    assert bodies
    assert all(name.startswith(("robot0_link", "fixed_mount0")) for name in bodies)


def of_meshes(model, chosen):
    meshes = model.geom_type == mujoco.mjtGeom.mjGEOM_MESH
    return [g for g in meshes.nonzero()[0] if chosen[model.geom_dataid[g]]]


def test_coarse_model_is_the_model_with_fewer_faces(simulator_of):
    model = simulator_of(TASKS["lift"]).picture_model
    before = [each.copy() for each in (model.mesh_face, model.mesh_vert, model.tex_data)]
    coarse = coarse_model(model, 84)
    for each, then in zip((model.mesh_face, model.mesh_vert, model.tex_data), before, strict=True):
        np.testing.assert_array_equal(each, then)
    assert coarse.mesh_facenum.sum() < model.mesh_facenum.sum() / 5
    assert coarse_model(model, 168).mesh_facenum.sum() > 1.2 * coarse.mesh_facenum.sum()
    assert coarse.tex_width.max() <= 4 * 84
    for name in ("nq", "nbody", "ngeom", "ncam", "nmesh", "nmat"):
        assert getattr(coarse, name) == getattr(model, name)
    assert model.vis.quality.offsamples > 0  # films are as they were
    largest = np.argmax(model.mesh_facenum)
    start, count = coarse.mesh_faceadr[largest], coarse.mesh_facenum[largest]
    assert coarse.mesh_face[start : start + count].max() < coarse.mesh_vertnum[largest]
    assert isinstance(coarse, mujoco.MjModel)


def test_give_back_frees_whole_pages_and_nothing_beside_them():
    """Where pages are given back, they become zero."""
    whole = np.ones(1_000_000, np.uint8)
    give_back(whole[10_001:900_001])
    assert whole[:10_001].all()
    assert whole[900_001:].all()
    assert (whole == 0).mean() > 0.8 or sys.platform != "linux"
    small = np.ones(100, np.uint8)
    give_back(small)
    assert small.all()
