"""Rules of a demonstration store; a StoreError says which is broken, where, and what to do."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from jaxtyping import Bool, Int

from reconverge.datasets.layout import (
    APPENDING,
    COLLECT,
    ENDS,
    FLOAT_TYPES,
    RESERVED,
    RESTORE,
    SCALAR_TYPES,
    SCHEMA,
    STEP_TYPES,
    Column,
    Episode,
    StoreError,
    StoreWarning,
    open_group,
    remedy,
    slabs,
)
from reconverge.datasets.pixels import PICTURES, array_of, picture_name
from reconverge.datasets.sums import METADATA, sum_rows


def check_name(path: Path, name: str) -> None:
    """Refuse an impossible name, and one that a terminal would act on."""
    if not name.strip(".") or name == METADATA or not name.isprintable():
        raise StoreError(
            f"{path}: the name {name!r} is not allowed; choose one of letters and digits"
        )


def check_names(
    path: Path,
    attributes: Iterable[str],
    steps: Sequence[str] = (),
    scalars: Mapping[str, str] | None = None,
) -> None:
    """Refuse reserved, repeated and impossible names, and scalars of other types than
    SCALAR_TYPES.
    """
    for name in (*steps, *(scalars or {})):
        check_name(path, name)
    taken = sorted({*SCHEMA, "checksum"} & set(attributes))
    taken += [name for name in steps if name in RESERVED or "/" in name or steps.count(name) > 1]
    taken += [name for name in scalars or {} if name == "episode_ends" or "/" in name]
    if taken:
        raise StoreError(
            f"{path}: the name {taken[0]!r} is reserved, given twice or has a '/'; choose another"
        )
    for name, kind in (scalars or {}).items():
        if kind not in SCALAR_TYPES:
            raise StoreError(
                f"{path}: meta/{name} cannot be {kind!r}; choose from {', '.join(SCALAR_TYPES)}"
            )


def check_schema(path: Path, schema: Mapping[str, Any], attributes: Iterable[str]) -> None:
    """Refuse what a store cannot be made with. Raises StoreError."""
    extras, pictures = schema["extra_sizes"], schema.get(PICTURES, {})
    sizes = {**schema["observation_sizes"], **extras, "action": schema["action_size"]}
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise StoreError(
                f"{path}: data/{name} has rows of {size!r} numbers, expected an int above 0, got "
                f"{type(size).__name__}; give how many one step has"
            )
    check_types(path, schema.get("types", {}), extras, schema.get("absent", ()))
    check_pictures(path, pictures)
    steps = [*schema["observation_sizes"], *extras, *map(picture_name, pictures)]
    check_names(path, attributes, steps, schema["scalar_types"])


def check_types(
    path: Path, types: Mapping[str, str], extras: Iterable[str], absent: Iterable[str]
) -> None:
    """Refuse observations, actions and rewards that are no real numbers, extras of other types."""
    for name, kind in types.items():
        legal = STEP_TYPES if name in extras else FLOAT_TYPES
        if kind not in legal:
            raise StoreError(
                f"{path}: data/{name} cannot be {kind!r}; choose from {', '.join(legal)}"
            )
    unknown = sorted(set(absent) - {"reward", "success"})
    if unknown:
        raise StoreError(f"{path}: {unknown[0]!r} cannot be absent; only reward and success can")


def check_pictures(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse cameras without a name, and pictures that are not RGB of some height and width."""
    for camera, shape in shapes.items():
        sides = [n for n in shape if isinstance(n, int) and n > 0]
        if not camera or len(sides) != 3 or list(shape)[2:] != [3]:
            raise StoreError(
                f"{path}: pictures of {camera!r} have the shape {list(shape)}, expected height, "
                "width and 3 colours, as {'agentview': (84, 84, 3)}"
            )


def check_length(path: Path, array: zarr.Array, rows: int, who: str) -> None:
    """Refuse an array with fewer rows than `who` counts."""
    if array.shape[0] < rows:
        raise StoreError(
            f"{path}: {array.path} has {array.shape[0]} rows, {who} wants {rows}; {RESTORE}"
        )


def check_ends(path: Path, ends: Int[np.ndarray, " E"]) -> None:
    """Refuse episodes without a step."""
    bad = np.flatnonzero(np.diff(ends, prepend=0) <= 0)
    if bad.size:
        i = int(bad[0])
        before = ends[i - 1] if i else 0
        again = remedy(path) if ends[i] == before else RESTORE  # an empty episode is left out
        raise StoreError(f"{path}: {ENDS}[{i}] is {ends[i]}, expected more than {before}; {again}")


def check_finite(where: str, values: np.ndarray, start: int = 0) -> None:
    """Refuse values that are not finite; `start` is the number of the first row."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row, *rest = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        index = ", ".join(str(i) for i in (row + start, *rest))
        found = values[(row, *rest)]
        raise StoreError(f"{where}[{index}] is {found}, expected a finite number; {COLLECT}")


def check_rows(
    path: Path, arrays: Mapping[str, zarr.Array], lengths: Mapping[str, int]
) -> dict[str, int]:
    """Read the first `lengths` rows of every array; refuse lost, damaged and infinite ones, and
    impossible names.

    Returns the CRC-32 of the rows by array.
    """
    for name, array in arrays.items():
        check_name(path, name)
        check_length(path, array, lengths[name], ENDS)
    found = dict.fromkeys(arrays, 0)
    for name, array in arrays.items():
        for start, values in slabs(path, array, 0, lengths[name]):
            check_finite(f"{path}: {name}", values, start)
            found[name] = sum_rows(values, found[name])
    return found


def check_surplus(
    path: Path, arrays: Mapping[str, zarr.Array], lengths: Mapping[str, int], episodes: int
) -> None:
    """Refuse rows beyond the episodes, unless an append goes on, was interrupted, or has ended
    since there were this many episodes.
    """
    for name, array in arrays.items():
        if array.shape[0] <= lengths[name] or (path / APPENDING).exists():
            continue
        if open_group(path, 3, "r").attrs.get("episodes") == episodes:
            raise StoreError(
                f"{path}: {name} has {array.shape[0]} rows, {ENDS} wants {lengths[name]}; {RESTORE}"
            )


def check_unended(path: Path, arrays: Mapping[str, zarr.Array], steps: int) -> None:
    """Refuse arrays with more rows than the episodes; warn where all have as many, which are those
    of an episode that was never ended.
    """
    found = {n: array.shape[0] for n, array in arrays.items() if n.startswith("data/")}
    name, most = max(found.items(), key=lambda item: item[1])
    if most > steps and len(set(found.values())) > 1:
        raise StoreError(f"{path}: {name} has {most} rows, {ENDS} wants {steps}; {remedy(path)}")
    if most > steps:
        said = f"{path}: left out {most - steps} steps after the last episode"
        warnings.warn(said, StoreWarning, 2)


def episode_rows(
    path: Path, columns: Mapping[str, Column], number: int, episode: Episode
) -> dict[str, np.ndarray]:
    """Return one episode's rows for each array but `meta/episode_ends`, in the array's type."""
    steps: dict[str, Any] = {**episode.observations, "action": episode.action, **episode.extras}
    steps |= {"reward": episode.reward, "success": episode.success}
    given = {f"data/{name}": rows for name, rows in steps.items() if rows is not None}
    given |= {array_of(camera): rows for camera, rows in episode.pictures.items()}
    given |= {f"meta/{name}": [row] for name, row in episode.scalars.items()}
    lacking, surplus = sorted(set(columns) - {ENDS} - set(given)), sorted(set(given) - set(columns))
    where = f"{path}: episode {number}"
    if lacking or surplus:
        remedy = "give the arrays that the store was created with"
        raise StoreError(
            f"{where} lacks {lacking or 'none'}, has surplus {surplus or 'none'}; {remedy}"
        )
    length = len(episode.action)
    if length == 0:
        raise StoreError(f"{where} has no step; leave it out")
    return {
        name: _converted(
            f"{where}: {name}", rows, columns[name], length if name.startswith("data/") else 1
        )
        for name, rows in given.items()
    }


def end_to_end(episodes: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Lay the rows of episodes end to end, by array; those of a single one are not copied."""
    if len(episodes) == 1:
        return dict(episodes[0])
    return {name: np.concatenate([rows[name] for rows in episodes]) for name in episodes[0]}


def _converted(where: str, rows: Any, column: Column, length: int) -> np.ndarray:
    dtype, row = column
    found = np.asarray(rows)
    if found.shape != (length, *row):
        raise StoreError(
            f"{where} has shape {found.shape}, expected {(length, *row)}; record every step"
        )
    casting: Literal["safe", "same_kind"] = "safe" if dtype == np.uint8 else "same_kind"
    if not np.can_cast(found.dtype, dtype, casting):
        raise StoreError(f"{where} is {found.dtype}, expected {dtype}; convert it")
    with np.errstate(over="ignore"):
        converted = found.astype(dtype, copy=False)
    check_finite(where, converted)
    whole = found.dtype.kind in "iu" and found.dtype != converted.dtype
    if whole and (changed := _changed(found, converted)).any():
        raise StoreError(
            f"{where} has {found[changed][0]}, which no {dtype} holds; convert it, or create the "
            "store with another type for it (types=)"
        )
    return converted


def _changed(whole: np.ndarray, converted: np.ndarray) -> Bool[np.ndarray, "..."]:
    """Tell which whole numbers are others in another type; one that wraps comes back the same."""
    with np.errstate(invalid="ignore"):
        back = converted.astype(whole.dtype)
    return (back != whole) | ((converted < 0) != (whole < 0))


def check_wanted(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse attributes that differ from the wanted ones; None wants nothing."""
    for name, value in wanted.items():
        if value is not None and (name not in found or found[name] != value):
            recorded = repr(found[name]) if name in found else "not recorded"
            raise StoreError(
                f"{path}: {name} is {recorded}, wanted {value!r}; name another store, or {COLLECT}"
            )


def other_versions(
    path: Path, recorded: Mapping[str, str], running: Mapping[str, str]
) -> Iterator[str]:
    """Yield a line for every package whose running version is not the recorded one."""
    for name, version in running.items():
        made = recorded.get(name, "of an unrecorded version")
        if made != version:
            remedy = f"install {name}=={made}, or {COLLECT}" if name in recorded else COLLECT
            yield f"{path}: made with {name} {made}, running {name} {version}; {remedy}"
