"""Demonstrations on their way between formats: every reader gives them, every writer takes them."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reconverge.datasets.formats.arrays import (
    NAME,
    RESTORE,
    ConversionError,
    Field,
    check_name,
    leaving_out,
)
from reconverge.datasets.layout import RESERVED, SCHEMA, Episode
from reconverge.datasets.pixels import PICTURES

# steps that a writer gathers before it writes them: some shards, so that few are written twice;
# and bytes of pictures, of which there are thousands of times as many
BATCH_STEPS, BATCH_BYTES = 32_000, 2**26


@dataclass(frozen=True)
class Demonstrations:
    """Hold episodes of one task; the fields are arguments of `DemonstrationStore.create`.

    `episodes` gives each episode with its own attributes (robomimic's `model_file`), once, as it is
    read. `warnings` say in a line each what of the source was left out or could not be told.
    `steps` are those of all episodes, where a source with pictures tells them before it is read.
    """

    source: str
    count: int
    episodes: Iterable[tuple[Episode, dict[str, Any]]]
    observation_sizes: Mapping[str, int]
    action_size: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    extra_sizes: Mapping[str, int] = field(default_factory=dict)
    scalar_types: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    pictures: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    steps: int = 0

    @classmethod
    def from_record(
        cls,
        source: str,
        count: int,
        episodes: Iterable[tuple[Episode, dict[str, Any]]],
        record: Mapping[str, Any],
        leave_out: Collection[str] = (),
        warnings: Iterable[str] = (),
        steps: int = 0,
    ) -> "Demonstrations":
        """Describe episodes by a record of their schema and attributes, as a store has it.

        They raise ConversionError where a number is not finite.
        """
        _check_record(source, record)
        left_out = [name for name in ("reward", "success") if name in leave_out]
        return cls(
            source=source,
            count=count,
            episodes=_finite(source, episodes, record, leave_out),
            observation_sizes=without(record["observation_sizes"], leave_out),
            action_size=record["action_size"],
            attributes=without(record, (*SCHEMA, "checksum")),
            extra_sizes=without(record["extra_sizes"], leave_out),
            scalar_types=record["scalar_types"],
            types=without(record.get("types", {}), leave_out),
            absent=tuple(dict.fromkeys([*record.get("absent", ()), *left_out])),
            pictures={c: tuple(shape) for c, shape in record.get(PICTURES, {}).items()},
            warnings=tuple(warnings),
            steps=steps,
        )

    @property
    def schema(self) -> dict[str, Any]:
        """Return what a writer records in order to give the same store back."""
        return {
            "observation_sizes": dict(self.observation_sizes),
            "action_size": self.action_size,
            "extra_sizes": dict(self.extra_sizes),
            "scalar_types": dict(self.scalar_types),
            "types": dict(self.types),
            "absent": list(self.absent),
            **({PICTURES: {c: list(s) for c, s in self.pictures.items()}} if self.pictures else {}),
        }

    @property
    def record(self) -> dict[str, Any]:
        """Return schema and attributes, as `from_record` takes them."""
        return {**self.schema, **self.attributes}

    def type_of(self, name: str) -> str:
        """Return the type of the array of this name with one row a step."""
        return "bool" if name == "success" else self.types.get(name, "float32")


def check_names(
    demonstrations: Demonstrations,
    taken: Collection[str] = (),
    taken_of_extras: Collection[str] = (),
    *,
    keys: Mapping[str, str],
) -> None:
    """Refuse names that could not be read back, and those that a format needs, by `taken` or, of
    extras alone, by `taken_of_extras`; `keys` name the pictures of each camera. Raises
    ConversionError.
    """
    source, extras = demonstrations.source, demonstrations.extra_sizes
    for name in (*demonstrations.observation_sizes, *extras):
        check_name(source, name)
        if name in taken or (name in extras and name in taken_of_extras):
            raise ConversionError(
                f"{source}: {name} is a name that the format needs; add {leaving_out([name])}"
            )
    owners = dict.fromkeys((*demonstrations.observation_sizes, *extras, *RESERVED), "an array")
    for camera, key in keys.items():
        check_name(source, key)
        if key in owners:
            raise ConversionError(
                f"{source}: {owners[key]} and the pictures of {camera} would both be {key}; "
                "leave one of them out with leave_out="
            )
        owners[key] = f"the pictures of {camera}"


def _check_record(source: str, record: Mapping[str, Any]) -> None:
    kinds = {"action_size": int, "absent": list}
    found = {"types": {}, "absent": [], PICTURES: {}, **record}
    for name in ("observation_sizes", "extra_sizes", "scalar_types", "types", PICTURES, *kinds):
        kind = kinds.get(name, dict)
        if not isinstance(found.get(name), kind):
            raise ConversionError(
                f"{source}: {name} is {found.get(name)!r}, expected a {kind.__name__}; {RESTORE}"
            )


def _finite(
    source: str,
    episodes: Iterable[tuple[Episode, dict[str, Any]]],
    record: Mapping[str, Any],
    leave_out: Collection[str],
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    """Yield the episodes up to the first number that is not finite; then look for all arrays that
    have any, and refuse them by name and place.
    """
    bad: dict[str, str] = {}
    labels = recorded_names(record)
    pictures = record.get(PICTURES, {})
    for i, (episode, own) in enumerate(episodes):
        _check_pictures(f"{source}: episode {i}", episode, pictures)
        for name, rows in rows_by_name(episode, record).items():
            if name in bad or rows.dtype.kind != "f" or np.isfinite(rows).all():
                continue
            index = tuple(int(n) for n in np.argwhere(~np.isfinite(rows))[0])
            label = labels[i] if i < len(labels) else f"episode {i}"
            bad[name] = f"{label}: {name}{list(index)} is {rows[index]}"
        for name, value in episode.scalars.items():
            if not np.isfinite(value):
                bad.setdefault(name, f"episode {i}: {name} is {value}")
        if not bad:
            yield episode, own
    if bad:
        option = "" if "action" in bad else f", or add {leaving_out([*leave_out, *bad])}"
        raise ConversionError(
            f"{source}: {'; '.join(bad.values())}, expected finite numbers; repair them{option}"
        )


def _check_pictures(where: str, episode: Episode, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse an episode without the pictures of every camera, one for each step, of its shape."""
    for camera, shape in shapes.items():
        found, wanted = np.shape(episode.pictures.get(camera, ())), (len(episode.action), *shape)
        if found != wanted:
            raise ConversionError(
                f"{where} has pictures of {camera} of shape {found}, expected {wanted}; {RESTORE}"
            )


def without(items: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Copy a dictionary without these names."""
    return {name: item for name, item in items.items() if name not in names}


def dictionary(attributes: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an attribute if it is a dictionary, as our tools write it, else {}."""
    value = attributes.get(name)
    return value if isinstance(value, Mapping) else {}


def batches(
    episodes: Iterable[tuple[Episode, dict[str, Any]]],
) -> Iterator[list[tuple[Episode, dict[str, Any]]]]:
    """Gather episodes until they have BATCH_STEPS steps, or pictures of BATCH_BYTES."""
    batch: list[tuple[Episode, dict[str, Any]]] = []
    steps = size = 0
    for item in episodes:
        batch.append(item)
        steps += len(item[0].action)
        size += sum(rows.nbytes for rows in item[0].pictures.values())
        if steps >= BATCH_STEPS or size >= BATCH_BYTES:
            yield batch
            batch, steps, size = [], 0, 0
    if batch:
        yield batch


def row_shapes(fields: Mapping[str, Field]) -> dict[str, list[int]]:
    """Return by name the shapes of rows that a store flattens, for writers to restore."""
    usual = {"reward": 0, "success": 0}
    return {
        name: list(field.row)
        for name, field in fields.items()
        if len(field.row) != usual.get(name, 1) and not field.picture
    }


def original_row(attributes: Mapping[str, Any], name: str, row: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a source's rows had, if an attribute says one of as many numbers."""
    stated: Any = dictionary(attributes, "row_shapes").get(name)
    whole = isinstance(stated, list) and all(type(n) is int and n > 0 for n in stated)
    return tuple(stated) if whole and math.prod(stated) == math.prod(row) else row


def recorded_names(attributes: Mapping[str, Any]) -> list[str]:
    """Return the recorded names of episodes; none if they are not, or cannot be all of them."""
    found = attributes.get("episode_names")
    names = found if isinstance(found, list) else []
    legal = all(isinstance(name, str) and NAME.fullmatch(name) for name in names)
    return names if legal and len(set(names)) == len(names) else []


def rows_by_name(episode: Episode, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays of an episode by their names in a store, in their original shapes."""
    steps: dict[str, Any] = {**episode.observations, **episode.extras, "action": episode.action}
    steps |= {"reward": episode.reward, "success": episode.success}
    return {
        name: rows.reshape(len(rows), *original_row(attributes, name, rows.shape[1:]))
        for name, rows in steps.items()
        if rows is not None
    }


def make_episode(
    rows: Mapping[str, np.ndarray],
    observations: Iterable[str],
    scalars: Mapping[str, int | float] | None = None,
    pictures: Mapping[str, np.ndarray] | None = None,
) -> Episode:
    """Make an episode of arrays by their names in a store; extras are all that remain."""
    keys = list(observations)
    return Episode(
        observations={key: rows[key] for key in keys},
        action=rows["action"],
        reward=rows["reward"].ravel() if "reward" in rows else None,
        success=rows["success"].ravel() if "success" in rows else None,
        extras=without(rows, (*keys, "action", "reward", "success")),
        scalars=dict(scalars or {}),
        pictures=dict(pictures or {}),
    )
