"""Read diffusion_policy's replay buffers: zarr v2 or v3, a directory or the same in a .zarr.zip."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Int

from reconverge.datasets.formats.arrays import (
    RESTORE,
    ConversionError,
    Field,
    check_left_out,
    check_name,
    check_rows,
    is_picture,
    is_rgb,
    refuse,
    schema_of,
    widen,
)
from reconverge.datasets.formats.episode_attributes import (
    read_episode_attributes,
)
from reconverge.datasets.formats.exchange import (
    Demonstrations,
    dictionary,
    row_shapes,
    without,
)
from reconverge.datasets.formats.pictures.keys import find_cameras, oriented, picture_schema
from reconverge.datasets.formats.zarr_files import UnknownCodec, ZarrFiles, find_group
from reconverge.datasets.layout import ENDS, RESERVED, Column, Episode, blocks, split_episodes
from reconverge.datasets.pixels import PICTURES

OUR_RECORD = "reconverge"  # root attribute that we write: the names of each group, in their order
GROUPS = ("observations", "extras", "scalars")


def read_diffusion_policy(
    path: Path, leave_out: Collection[str] = (), pictures: bool = True
) -> Demonstrations:
    """Read the episodes of a replay buffer; `data/obs/x` becomes x, `data/a/b` becomes a.b.

    Arrays of real numbers and those in `data/obs` are observations, but the action and the reward;
    others are extras, unless there are no real ones; `data/agentview_image` [T, H, W, 3] are the
    pictures of agentview, also real numbers of which all are whole and 0 to 255. Arrays of `meta`
    with one number an episode are scalars. Raises ConversionError.
    """
    source = str(path)
    files = find_group(path, ENDS)
    attributes = files.attributes()
    ends, kept, warnings = _ends(files)
    arrays, unseen = _arrays(files, leave_out, pictures)
    scalars, more = _scalars(files, kept)
    seen = {name: array for name, array in arrays.items() if _is_seen(files, name, array)}
    order = _order(source, without(arrays, seen), scalars, attributes, leave_out)
    scalars = {name: scalars[name] for name in order[2]}
    fields = {
        name: Field(name, array.dtype, array.shape[1:], name in order[0], picture=name in seen)
        for name, array in arrays.items()
    }
    surplus = _surplus(arrays, int(ends[-1]))
    _refuse_unfit(source, fields, arrays, int(ends[-1]) + surplus, leave_out)
    warnings += [f"left out {surplus} steps after the last episode"] if surplus else []
    if OUR_RECORD not in attributes:
        attributes["row_shapes"] = row_shapes(fields)
    arranged = {name: fields[name] for name in dict.fromkeys([*order[0], *order[1], *fields])}
    known = dictionary(dictionary(attributes, OUR_RECORD), PICTURES)
    cameras = find_cameras(source, fields, {str(key): str(c) for key, c in known.items()})
    record = {
        **without(attributes, [OUR_RECORD, PICTURES]),
        **schema_of(arranged),
        **picture_schema(cameras),
        "scalar_types": {name: values.dtype.name for name, values in scalars.items()},
    }
    own = read_episode_attributes(files.root, len(ends))
    found = _episodes(files, arrays, arranged, scalars, ends)
    episodes = zip(_with_pictures(files, arrays, cameras, found), own, strict=True)
    return Demonstrations.from_record(
        source, len(ends), episodes, record, leave_out, [*warnings, *more, *unseen], int(ends[-1])
    )


def _ends(files: ZarrFiles) -> tuple[Int[np.ndarray, " E"], Int[np.ndarray, " E"], list[str]]:
    """Read where episodes end; return the ends and the numbers of those with a step, and a line
    about the others.
    """
    array = files.open(ENDS)
    where = f"{files.source}: {ENDS}"
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ConversionError(
            f"{where} has {array.ndim} dimensions of {array.dtype}, expected a row of whole "
            f"numbers; {RESTORE}"
        )
    ends = widen(where, files.read(array, ENDS, 0, array.shape[0]), "int64")
    lengths = np.diff(ends, prepend=0)
    if (lengths < 0).any():
        i = int(np.argmax(lengths < 0))
        raise ConversionError(
            f"{where}[{i}] is {ends[i]}, expected at least {ends[i - 1] if i else 0}; {RESTORE}"
        )
    kept, empty = np.flatnonzero(lengths), np.flatnonzero(lengths == 0)
    if not kept.size:
        raise ConversionError(f"{files.source}: holds no step; choose another source")
    names = ", ".join(str(i) for i in empty)
    return ends[kept], kept, [f"left out episode {names}: without a step"] if empty.size else []


def _arrays(
    files: ZarrFiles, leave_out: Collection[str], pictures: bool
) -> tuple[dict[str, zarr.Array], list[str]]:
    """Open the arrays of `data` by their names in a store, without pictures unless wanted, and
    return a line about those.
    """
    paths = files.names("data")
    names = {path: path.removeprefix("obs/").replace("/", ".") for path in paths}
    for path, name in names.items():
        if list(names.values()).count(name) > 1:
            names[path] = path.replace("/", ".")
        check_name(files.source, names[path])
    check_left_out(files.source, leave_out, [n for n in names.values() if n != "action"])
    if "action" not in names:
        raise ConversionError(f"{files.source}: data/action is missing; {RESTORE}")
    found: dict[str, zarr.Array] = {}
    columns: dict[str, Column] = {}
    unread: dict[str, str] = {}
    for path, name in names.items():
        if name in leave_out:
            continue
        try:
            found[name] = files.open(f"data/{path}")
            columns[name] = (found[name].dtype, found[name].shape[1:])
        except UnknownCodec as error:
            columns[name], unread[name] = error.column, f"in the unknown codec {error.codec}"
    unseen = [name for name, column in columns.items() if not pictures and is_picture(*column)]
    refuse(files.source, without(unread, unseen), leave_out)
    lines = [f"left out {', '.join(unseen)}: pictures"] if unseen else []
    kept = without(found, unseen)
    return kept, lines + _lacking(files, kept.values())


def _is_seen(files: ZarrFiles, name: str, array: zarr.Array) -> bool:
    """Tell pictures that a store holds, also as real numbers that bytes hold exactly."""
    kind, row = array.dtype, array.shape[1:]
    if kind.kind != "f" or not is_picture(kind, row):
        return is_rgb(kind, row)
    step = (array.shards or array.chunks)[0]
    parts = (
        files.read(array, f"data/{name}", start, min(start + step, array.shape[0]))
        for start in range(0, array.shape[0], step)
    )
    with np.errstate(invalid="ignore"):
        return is_rgb(np.dtype(np.uint8), row) and all((p == _bytes(p)).all() for p in parts)


def _bytes(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.uint8, copy=False)


def _lacking(files: ZarrFiles, arrays: Iterable[zarr.Array]) -> list[str]:
    """Return a line for each array without some of its chunks, which zarr reads as one value.

    zarr itself may leave out chunks of nothing else; our exports never do. Raises ConversionError.
    """
    lines = []
    for array in arrays:
        lacking, whole = files.lacking(array)
        if not lacking:
            continue
        line = f"{array.path.removeprefix(files.place)} lacks {lacking} of {whole} chunks"
        if OUR_RECORD in files.attributes():
            raise ConversionError(f"{files.source}: {line}; {RESTORE}")
        lines.append(f"{line}: read as {array.fill_value}")
    return lines


def _scalars(
    files: ZarrFiles, kept: Int[np.ndarray, " E"]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read the arrays of `meta` with one number an episode, and return a line about the others."""
    found: dict[str, np.ndarray] = {}
    behind, lines = [], []
    count = files.open(ENDS).shape
    for path in files.names("meta"):
        name = check_name(files.source, path.replace("/", "."))
        array = files.open(f"meta/{path}")
        if path == "episode_ends":
            continue
        if array.shape != count or array.dtype.kind not in "biuf":
            behind.append(f"meta/{path}")
            continue
        lines += _lacking(files, [array])
        values = files.read(array, f"meta/{path}", 0, count[0])[kept]
        kind = {"b": "bool", "f": "float64"}.get(values.dtype.kind, "int64")
        found[name] = widen(f"{files.source}: meta/{path}", values, kind)
    lines += [f"left out {', '.join(behind)}: not a number an episode"] if behind else []
    return found, lines


def _order(
    source: str,
    arrays: Mapping[str, zarr.Array],
    scalars: Mapping[str, np.ndarray],
    attributes: Mapping[str, Any],
    leave_out: Collection[str],
) -> list[list[str]]:
    """Return the names of observations, extras and scalars, by our record or by their types."""
    data = [name for name in arrays if name not in RESERVED]
    if OUR_RECORD not in attributes:
        real = [n for n in data if arrays[n].dtype.kind == "f" or "/obs/" in arrays[n].path]
        observations = real or data
        if not observations:
            raise ConversionError(
                f"{source}: has no observation, only {', '.join(arrays)}; choose another file"
            )
        return [observations, [name for name in data if name not in observations], list(scalars)]
    try:
        stated = [[str(name) for name in attributes[OUR_RECORD][key]] for key in GROUPS]
    except (KeyError, TypeError) as error:
        raise ConversionError(
            f"{source}: the attribute {OUR_RECORD} was edited ({error}); {RESTORE}"
        ) from error
    stated[:2] = ([name for name in names if name not in leave_out] for names in stated[:2])
    if sorted([*stated[0], *stated[1]]) != sorted(data) or sorted(stated[2]) != sorted(scalars):
        raise ConversionError(
            f"{source}: the attribute {OUR_RECORD} names other arrays than data has; {RESTORE}"
        )
    return stated


def _surplus(arrays: Mapping[str, zarr.Array], steps: int) -> int:
    """Return how many steps, of an episode that was never ended, actions have at their end."""
    return max(0, next(iter(arrays["action"].shape), 0) - steps)


def _refuse_unfit(
    source: str,
    fields: Mapping[str, Field],
    arrays: Mapping[str, zarr.Array],
    steps: int,
    leave_out: Collection[str],
) -> None:
    """Refuse arrays that are no numbers or have not one row a step."""
    obstacles = {name: field.obstacle for name, field in fields.items() if field.obstacle}
    for name, array in arrays.items():
        rows = next(iter(array.shape), 0)
        if rows != steps:
            obstacles.setdefault(name, f"{rows} rows, {ENDS} wants {steps}")
    refuse(source, obstacles, leave_out)


def _episodes(
    files: ZarrFiles,
    arrays: Mapping[str, zarr.Array],
    fields: Mapping[str, Field],
    scalars: Mapping[str, np.ndarray],
    ends: Int[np.ndarray, " E"],
) -> Iterator[Episode]:
    """Yield the episodes without pictures, read about SHARD_STEPS steps at a time."""
    fields = {name: field for name, field in fields.items() if not field.picture}
    keys = [name for name, field in fields.items() if field.observation]
    for start, stop in blocks(ends):
        begin = int(ends[start - 1]) if start else 0
        end = int(ends[stop - 1])
        rows: dict[str, np.ndarray] = {}
        for name, field in fields.items():
            where = f"data/{name}"
            values = files.read(arrays[name], where, begin, end)
            rows[name] = check_rows(
                f"{files.source}: {where}", values, end - begin, field.store_type
            )
            rows[name] = rows[name].ravel() if name in ("reward", "success") else rows[name]
        meta = {name: values[start:stop] for name, values in scalars.items()}
        yield from split_episodes(rows, meta, ends[start:stop] - begin, keys)


def _with_pictures(
    files: ZarrFiles,
    arrays: Mapping[str, zarr.Array],
    cameras: Mapping[str, Field],
    episodes: Iterator[Episode],
) -> Iterator[Episode]:
    """Add the pictures to the episodes, read an episode at a time."""
    start = 0
    for episode in episodes:
        stop = start + len(episode.action)
        seen = {
            camera: oriented(
                _bytes(files.read(arrays[field.name], f"data/{field.name}", start, stop))
            )
            for camera, field in cameras.items()
        }
        yield replace(episode, pictures=seen) if seen else episode
        start = stop
