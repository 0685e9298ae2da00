"""Demonstrations on their way between formats: what every reader gives, every writer takes, and the rules of both."""

import json
import os
import re
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.layout import FLOAT_TYPES, SCHEMA, STEP_TYPES, Episode, StoreError
from datasets.store import DemonstrationStore

BATCH_STEPS = 32_000  # steps that a writer gathers before it writes them: some shards, so that few are written twice
EPISODE_ATTRIBUTES = "episode_attributes.zip"  # beside the arrays: what a format says of single episodes, as JSON
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._\-]*")


class ConversionError(ValueError):
    """Demonstrations cannot be read or written; one line says which, where, and what to do."""


@dataclass(frozen=True)
class Demonstrations:
    """Episodes of one task in the terms of `DemonstrationStore.create`, which the fields are named after.

    `episodes` gives each episode with its own attributes (robomimic's `model_file`), once, as it is read.
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

    @property
    def schema(self) -> dict[str, Any]:
        """What a writer records in order to give the same store back."""
        return {
            "observation_sizes": dict(self.observation_sizes),
            "action_size": self.action_size,
            "extra_sizes": dict(self.extra_sizes),
            "scalar_types": dict(self.scalar_types),
            "types": dict(self.types),
            "absent": list(self.absent),
        }

    def type_of(self, name: str) -> str:
        """The type of one row a step."""
        return "bool" if name == "success" else self.types.get(name, "float32")


def described(
    source: str,
    count: int,
    episodes: Iterable[tuple[Episode, dict[str, Any]]],
    attributes: dict[str, Any],
    leave_out: Collection[str] = (),
) -> Demonstrations:
    """Demonstrations whose attributes hold their schema, as a store's do; ConversionError where they do not."""
    wanted: dict[str, type] = {
        "observation_sizes": dict,
        "action_size": int,
        "extra_sizes": dict,
        "scalar_types": dict,
    }
    for name, kind in wanted.items():
        if not isinstance(attributes.get(name), kind):
            raise ConversionError(f"{source}: {name} is {attributes.get(name)!r}, expected a {kind.__name__}")
    types, absent = attributes.get("types", {}), attributes.get("absent", [])
    if not isinstance(types, dict) or not isinstance(absent, list):
        raise ConversionError(f"{source}: types is {types!r}, absent is {absent!r}; expected a dict and a list")
    return Demonstrations(
        source=source,
        count=count,
        episodes=episodes,
        observation_sizes=_without(attributes["observation_sizes"], leave_out),
        action_size=attributes["action_size"],
        attributes=_without(attributes, (*SCHEMA, "checksum")),
        extra_sizes=_without(attributes["extra_sizes"], leave_out),
        scalar_types=attributes["scalar_types"],
        types=_without(types, leave_out),
        absent=tuple(absent),
    )


def mapping(attributes: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An attribute that is a dictionary where our tools wrote it; empty where it is anything else."""
    value = attributes.get(name)
    return value if isinstance(value, Mapping) else {}


def _without(items: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: item for name, item in items.items() if name not in names}


def read_store(path: Path, leave_out: Collection[str] = ()) -> Demonstrations:
    """The episodes of a demonstration store without some of its observations and extras."""
    store = DemonstrationStore.open(path)
    attributes = read_episode_attributes(path / EPISODE_ATTRIBUTES, len(store))
    episodes = (
        (
            replace(
                episode,
                observations=_without(episode.observations, leave_out),
                extras=_without(episode.extras, leave_out),
            ),
            own,
        )
        for episode, own in zip(store.episodes(), attributes, strict=True)
    )
    if "extra_sizes" not in store.attributes:
        raise ConversionError(f"{path}: in diffusion_policy's layout; give source_format=diffusion_policy")
    check_left_out(str(path), leave_out, [*store.observation_sizes, *store.attributes["extra_sizes"]])
    return described(str(path), len(store), episodes, store.attributes, leave_out)


def check_left_out(source: str, leave_out: Iterable[str], there: Collection[str]) -> None:
    """ConversionError for a name that is not there."""
    unknown = [name for name in leave_out if name not in there]
    if unknown:
        raise ConversionError(f"{source}: leave_out={unknown[0]} is not there; choose from {', '.join(sorted(there))}")


def write_store(demonstrations: Demonstrations, path: Path) -> None:
    """Make a store of demonstrations, whole or not at all. Raises ConversionError."""
    with made_whole(path) as temporary:
        store = DemonstrationStore.create(
            temporary,
            demonstrations.observation_sizes,
            demonstrations.action_size,
            demonstrations.attributes,
            extra_sizes=demonstrations.extra_sizes,
            scalar_types=demonstrations.scalar_types,
            types=demonstrations.types,
            absent=demonstrations.absent,
        )
        with EpisodeAttributes(temporary / EPISODE_ATTRIBUTES) as attributes:
            for batch in batches(demonstrations.episodes):
                store.extend(episode for episode, _ in batch)
                attributes.write(own for _, own in batch)


def batches(episodes: Iterable[tuple[Episode, dict[str, Any]]]) -> Iterator[list[tuple[Episode, dict[str, Any]]]]:
    """Episodes gathered until they have BATCH_STEPS steps."""
    batch: list[tuple[Episode, dict[str, Any]]] = []
    steps = 0
    for item in episodes:
        batch.append(item)
        steps += len(item[0].action)
        if steps >= BATCH_STEPS:
            yield batch
            batch, steps = [], 0
    if batch:
        yield batch


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name at the end, or is deleted where anything is raised."""
    if path.exists() or path.is_symlink():
        raise ConversionError(f"{path}: exists already; delete it, or choose another target")
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.rename(temporary, path)
    except StoreError as error:
        raise ConversionError(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        reason = str(error).replace(str(temporary), str(path))
        raise ConversionError(f"{path}: cannot be written ({reason}); check the disk's space and rights") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)


class EpisodeAttributes:
    """Writes `<episode>.json` for each episode that has attributes of its own; no file where none has."""

    def __init__(self, path: Path):
        self._path, self._count = path, 0
        self._file: zipfile.ZipFile | None = None

    def __enter__(self) -> "EpisodeAttributes":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def write(self, attributes: Iterable[dict[str, Any]]) -> None:
        for own in attributes:
            if own:
                self._file = self._file or zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
                self._file.writestr(f"{self._count}.json", json.dumps(own))
            self._count += 1


def read_episode_attributes(path: Path, count: int) -> Iterator[dict[str, Any]]:
    """What `EpisodeAttributes` wrote, one dict for each of `count` episodes, empty where there is none."""
    if not path.exists():
        yield from ({} for _ in range(count))
        return
    try:
        with zipfile.ZipFile(path) as file:
            names = set(file.namelist())
            for i in range(count):
                yield json.loads(file.read(f"{i}.json")) if f"{i}.json" in names else {}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError) as error:
        raise ConversionError(f"{path}: truncated or edited ({error}); restore a copy") from error


def check_name(where: str, name: str) -> str:
    """The name of an array or an episode, unless a file system could read anything else in it."""
    if not NAME.fullmatch(name) or len(name) > 200:
        legal = "letters, digits, '_', '-', '.' and spaces, beginning with a letter or a digit"
        raise ConversionError(f"{where}: the name {name!r} is not allowed; rename it with {legal}")
    return name


def legal_types(name: str, observation: bool = False) -> tuple[str, ...]:
    """Types that the array of this name may have in a store."""
    if name == "success":
        return ("bool",)
    return FLOAT_TYPES if observation or name in ("action", "reward") else STEP_TYPES


def check_rows(where: str, values: np.ndarray, length: int, legal: tuple[str, ...]) -> np.ndarray:
    """`values` as [length, size], of one of the legal types and finite; ConversionError says where not."""
    if not any(values.dtype == name for name in legal):
        raise ConversionError(f"{where} is {values.dtype}, expected {' or '.join(legal)}; convert it or leave it out")
    if values.ndim == 0 or len(values) != length:
        raise ConversionError(f"{where} has shape {values.shape}, expected {length} rows, as many as actions")
    if values.ndim > 3 or (values.ndim == 3 and values.dtype == np.uint8):
        raise ConversionError(f"{where} has rows of shape {values.shape[1:]}: a picture? only low-dimensional arrays "
                              "are converted; leave it out with leave_out=[...]")  # fmt: skip
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ConversionError(f"{where}{list(index)} is {values[index]}, expected a finite number; repair the file")
    return values.reshape(length, -1)


def row_shapes(rows: Mapping[str, tuple[int, ...]]) -> dict[str, list[int]]:
    """The shapes of rows that a store keeps flat, by name, so that a writer can give them back."""
    usual = {"reward": 0, "success": 0}
    return {name: list(row) for name, row in rows.items() if len(row) != usual.get(name, 1)}


def rows_by_name(episode: Episode, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of an episode by their names in a store, their rows in the shapes that they came in."""
    steps: dict[str, Any] = {**episode.observations, **episode.extras, "action": episode.action}
    steps |= {"reward": episode.reward, "success": episode.success}
    shapes = attributes.get("row_shapes", {})
    return {
        name: rows.reshape(len(rows), *shapes[name]) if name in shapes else rows
        for name, rows in steps.items()
        if rows is not None
    }


def make_episode(
    rows: Mapping[str, np.ndarray], observations: Iterable[str], scalars: Mapping[str, int | float] | None = None
) -> Episode:
    """An episode of arrays by their names in a store; what is neither observation nor reserved is an extra."""
    keys = list(observations)
    return Episode(
        observations={key: rows[key] for key in keys},
        action=rows["action"],
        reward=rows["reward"].ravel() if "reward" in rows else None,
        success=rows["success"].ravel() if "success" in rows else None,
        extras={name: rows[name] for name in rows if name not in (*keys, "action", "reward", "success")},
        scalars=dict(scalars or {}),
    )
