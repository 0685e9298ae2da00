"""What the episodes of a file have in common: which of its arrays a store can have."""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from reconverge.datasets.formats.arrays import (
    ConversionError,
    Field,
    check_left_out,
    is_picture,
    is_rgb,
    refuse,
)
from reconverge.datasets.formats.hdf5.contents import MAX_ARRAY_BYTES

Kind = tuple[np.dtype, tuple[int, ...]]  # type and shape of an array

MAX_EPISODE_BYTES = 2 * MAX_ARRAY_BYTES


class Layout(NamedTuple):
    """Say by the paths in an episode what the arrays of a format are."""

    names: Mapping[str, str]  # in a store, of paths that do not simply have their own
    observations: str  # beginning of the paths of observations
    steps: tuple[str, ...]  # beginnings of paths that must have one row a step
    pictures: tuple[str, ...] = ()  # beginnings of the paths of pictures to convert
    above: str = ""  # beginning of paths that a name in a store does without

    def name_of(self, path: str) -> str:
        """Return the name in a store of an array of an episode."""
        return self.names.get(path, path.removeprefix(self.above).replace("/", "."))


def survey(
    source: str,
    layout: Layout,
    episodes: Mapping[str, Mapping[str, Kind]],
    leave_out: Collection[str],
    pictures: bool = True,
) -> tuple[dict[str, Field], list[str]]:
    """Compare the arrays, by path, of all episodes; `actions` have an episode's length.

    Return those of which every episode has one row a step by their names in a store, and lines
    about the others, with `pictures` or without. Raises ConversionError for all arrays at once that
    no store can hold.
    """
    lengths = {label: arrays["actions"][1][0] for label, arrays in episodes.items()}
    fields: dict[str, Field] = {}
    obstacles: dict[str, str] = {}
    behind: list[str] = []
    unseen: list[str] = []
    names = _names(source, layout, episodes)
    check_left_out(source, leave_out, names.keys() - {"action"})
    for name, path in names.items():
        if name in leave_out:
            continue
        found = {label: arrays[path] for label, arrays in episodes.items() if path in arrays}
        odd = [label for label, (_, shape) in found.items() if shape[:1] != (lengths[label],)]
        if odd and not path.startswith(layout.steps):
            behind.append(name)
            continue
        kind = _common(found.values())
        if not pictures and is_picture(*kind):
            unseen.append(name)
            continue
        picture = path.startswith(layout.pictures) and is_rgb(*kind)
        observation = path.startswith(layout.observations) and not picture
        field = Field(name, *kind, observation, path, picture)
        lacking = [label for label in episodes if label not in found]
        ragged = [label for label, (_, shape) in found.items() if shape[1:] != field.row]
        obstacle = (
            (lacking and f"missing in {_some(lacking)}")
            or (odd and f"{_rows(found[odd[0]])}, not {lengths[odd[0]]}, in {_some(odd)}")
            or (ragged and f"rows of another shape in {_some(ragged)}")
            or field.obstacle
        )
        if obstacle:
            obstacles[name] = obstacle
        fields[name] = field
    refuse(source, obstacles, leave_out)
    _check_sizes(source, {field.path for field in fields.values()}, episodes)
    reasons = {"not one row a step": behind, "pictures": unseen}
    return fields, [f"left out {', '.join(some)}: {why}" for why, some in reasons.items() if some]


def _check_sizes(
    source: str, paths: Collection[str], episodes: Mapping[str, Mapping[str, Kind]]
) -> None:
    """Refuse an episode whose arrays at these paths are too large together, before any is read."""
    for label, arrays in episodes.items():
        sizes = [arrays[path][0].itemsize * math.prod(arrays[path][1]) for path in paths]
        if sum(sizes) > MAX_EPISODE_BYTES:
            raise ConversionError(
                f"{source}: {label} has {sum(sizes) / 2**30:.3g} GiB in its arrays, at most "
                f"{MAX_EPISODE_BYTES >> 30} can be read; leave some out with leave_out="
            )


def without_steps(source: str, labels: list[str], kept: list[str]) -> list[str]:
    """Return a line about the episodes without a step. Raises ConversionError if none is kept."""
    if not kept:
        raise ConversionError(
            f"{source}: holds no step of an episode; choose another source or filter"
        )
    having = set(kept)
    empty = [label for label in labels if label not in having]
    return [f"left out {', '.join(empty)}: without a step"] if empty else []


def _names(
    source: str, layout: Layout, episodes: Mapping[str, Mapping[str, Kind]]
) -> dict[str, str]:
    """Return the paths of all arrays by their names in a store."""
    names: dict[str, str] = {}
    for path in dict.fromkeys(path for arrays in episodes.values() for path in arrays):
        other = names.setdefault(layout.name_of(path), path)
        if other != path:
            raise ConversionError(
                f"{source}: {other} and {path} would both be {layout.name_of(path)}; rename one"
            )
    return names


def _common(kinds: Iterable[Kind]) -> Kind:
    """Return the type that holds the numbers of all types, and the shape of the first rows."""
    types, shapes = zip(*kinds, strict=True)
    odd = [dtype for dtype in types if dtype.kind not in "biuf"]
    return odd[0] if odd else np.result_type(*types), shapes[0][1:]


def _rows(kind: Kind) -> str:
    return f"{kind[1][0]} rows" if kind[1] else "a single value"


def _some(labels: list[str]) -> str:
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    return f"{labels[0]}{more}"
