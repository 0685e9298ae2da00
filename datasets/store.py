"""Demonstration stores: the episodes of one task in a zarr directory, appended atomically."""

import math
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Float, Int, UInt8

from reconverge.datasets import layout, rules, sums
from reconverge.datasets.layout import (
    APPENDING,
    ENDS,
    RESERVED,
    SCHEMA_VERSION,
    SUMS,
    Column,
    Episode,
    StoreError,
)
from reconverge.datasets.lock import writing
from reconverge.datasets.pixels import PICTURES, arrays_by_camera
from reconverge.errors import unknown
from reconverge.files import creating

EXPERT = "expert"  # attribute of every store that our own experts recorded


class StoreVersionWarning(UserWarning):
    """A store was made with other simulator versions than the running ones."""


class DemonstrationStore:
    """Episodes of one task: `data/<name>` holds a row a step, `meta/<name>` a row an episode.

    `pictures` are height, width and 3 of each camera's, `picture_arrays` the arrays that hold them.
    Call `create` or `open` to get one. Rows beyond the `episodes` that the attributes count belong
    to no episode: replacing the root's zarr.json (a rename) is the one step that commits an append.
    """

    def __init__(
        self, path: Path, group: zarr.Group, attributes: dict[str, Any], columns: dict[str, Column]
    ) -> None:
        self.path = path
        self.attributes = attributes
        self._group = group
        self.columns = columns
        self.picture_arrays = arrays_by_camera(attributes, columns)
        self.pictures = {camera: columns[name][1] for camera, name in self.picture_arrays.items()}
        self._arrays = {
            name: layout.find_array(path, group, name, column) for name, column in columns.items()
        }
        self.episode_ends: Int[np.ndarray, " E"] = np.zeros(0, np.int64)
        self._sums: dict[str, int] = {}  # of the rows of each array
        self._validate()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        observation_sizes: Mapping[str, int],
        action_size: int,
        attributes: Mapping[str, Any],
        *,
        extra_sizes: Mapping[str, int] | None = None,
        scalar_types: Mapping[str, str] | None = None,
        types: Mapping[str, str] | None = None,
        absent: Sequence[str] = (),
        pictures: Mapping[str, Sequence[int]] | None = None,
    ) -> "DemonstrationStore":
        """Make an empty store, whole or not at all, and open it for appending.

        `attributes` is anything that JSON can say (task, simulator, controller, expert, noise,
        seeds, versions); `extra_sizes` declares further arrays of one row a step, `scalar_types`
        arrays of one number ("int64", "float64" or "bool") an episode. `types` names arrays of one
        row a step that are not float32, `absent` "reward" or "success" if nobody recorded them,
        `pictures` the shape (height, width, 3) of each camera's.
        Raises StoreError, also if `path` exists, and ReconvergeError if it cannot be written.
        """
        path = Path(path)
        schema = {
            "observation_sizes": dict(observation_sizes),
            "action_size": action_size,
            "extra_sizes": dict(extra_sizes or {}),
            "scalar_types": dict(scalar_types or {}),
            **({"types": dict(types)} if types else {}),
            **({"absent": list(absent)} if absent else {}),
            **({PICTURES: dict(pictures)} if pictures else {}),
        }
        rules.check_schema(path, schema, attributes)
        record = {"schema_version": SCHEMA_VERSION, "episodes": 0, **schema, **attributes}
        sums.signed(path, record)
        if path.exists():
            raise StoreError(
                f"{path}: exists already; open it with mode='a', or choose another path"
            )
        with creating(path) as temporary:
            group = layout.make_arrays(temporary, record)
            arrays = layout.columns(record)
            record[SUMS] = {**sums.sum_files(temporary, arrays), **dict.fromkeys(arrays, 0)}
            group.update_attributes(sums.signed(path, record))
        return cls.open(path, "a")

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: str = "r") -> "DemonstrationStore":
        """Open and validate a store, reading every value once; 'a' drops the rows of an append
        that was interrupted.

        A zarr v2 directory in diffusion_policy's layout (`data/*`, `meta/episode_ends`) opens for
        reading: every array of `data` but pictures (RGB) and RESERVED is an observation key, in
        alphabetical order; reward, success and attributes may lack; further arrays of `meta` with
        one number an episode are scalars. Raises StoreError.
        """
        path = Path(path)
        if mode not in ("r", "a"):
            raise StoreError(f"{path}: mode {mode!r} is unknown; use 'r' or 'a'")
        if (path / ".zgroup").exists():
            if mode != "r":
                raise StoreError(
                    f"{path}: is a zarr v2 directory, readable only; open it with mode='r'"
                )
            group = layout.open_group(path, 2, "r")
            return cls(path, group, dict(group.attrs), layout.version_2_columns(path, group))
        group = layout.open_group(path, 3, mode)
        record = dict(group.attrs)
        sums.check_record(path, record)
        columns = layout.columns(record)
        sums.check_members(path, columns)
        store = cls(path, group, record, columns)
        if mode == "a":
            store._drop_uncommitted()
        return store

    def __len__(self) -> int:
        return len(self.episode_ends)

    @property
    def n_steps(self) -> int:
        """Count the steps of all episodes."""
        return int(self.episode_ends[-1]) if len(self) else 0

    @property
    def action_size(self) -> int:
        """Return Da, the numbers of one action."""
        return math.prod(self.columns["data/action"][1])

    @property
    def observation_sizes(self) -> dict[str, int]:
        """Return the numbers a step of each observation key, in the declared order."""
        if "observation_sizes" in self.attributes:
            return dict(self.attributes["observation_sizes"])
        names = [name for name in self.names("data/") if name not in RESERVED]
        return {name: math.prod(self.columns[f"data/{name}"][1]) for name in names}

    def identity(self) -> dict[str, Any]:
        """Return what tells these demonstrations from others, as JSON can say it.

        `checksum` is that of the whole store, `origin` "scripted" (by our expert, with its noise in
        `settings`) or "brought" (in the format that `settings` names, if known).
        """
        scripted = EXPERT in self.attributes
        settings = (EXPERT, "noise") if scripted else ("source_format",)
        return {
            "checksum": sums.checksum({**self.attributes, "rows": self._sums}),
            "origin": "scripted" if scripted else "brought",
            "episodes": len(self),
            "settings": {name: self.attributes.get(name) for name in settings},
        }

    def read(self, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Read arrays of one row a step but pictures, by name without `data/`; all by default."""
        return self._rows("data/", names, 0, self.n_steps)

    def scalars(self) -> dict[str, np.ndarray]:
        """Read the arrays of one number an episode, by name without the `meta/`."""
        return self._rows("meta/", None, 0, len(self))

    def observations(self, keys: Sequence[str] | None = None) -> Float[np.ndarray, "T Do"]:
        """Read observations, the keys (by default all, in the declared order) side by side."""
        parts = self.read(list(self.observation_sizes) if keys is None else keys)
        return np.concatenate([np.asarray(part, np.float32) for part in parts.values()], axis=1)

    def read_pictures(self, camera: str, start: int, stop: int) -> UInt8[np.ndarray, "n H W 3"]:
        """Read a camera's pictures of steps `start` to `stop`, as a slice counts them.

        What is read from disk are the chunks that they lie in.
        """
        if camera not in self.pictures:
            raise unknown(f"camera of {self.path}", camera, list(self.pictures), StoreError)
        steps = range(self.n_steps)[start:stop]
        array = self._arrays[self.picture_arrays[camera]]
        return layout.read(self.path, array, steps.start, steps.stop)

    def check_pictures(self, camera: str) -> None:
        """Raise StoreError if a camera's pictures on disk are no longer those that were opened."""
        name = self.picture_arrays[camera]
        found = rules.check_rows(self.path, {name: self._arrays[name]}, {name: self.n_steps})
        sums.check_same(self.path, found, self._sums)

    def episode(self, index: int, cameras: Collection[str] | None = None) -> Episode:
        """Read episode `index` (negative: from the end; IndexError) and pictures as `episodes`."""
        index = range(len(self))[index]
        return self._with_pictures(index, self._block(index, index + 1)[0], cameras)

    def episodes(self, cameras: Collection[str] | None = None) -> Iterator[Episode]:
        """Yield all episodes in their order, with the pictures of these cameras, by default all."""
        for start, stop in layout.blocks(self.episode_ends):
            for index, episode in enumerate(self._block(start, stop), start):
                yield self._with_pictures(index, episode, cameras)

    def _with_pictures(
        self, index: int, episode: Episode, cameras: Collection[str] | None = None
    ) -> Episode:
        end = int(self.episode_ends[index])
        steps = (end - len(episode.action), end)
        chosen = self.pictures if cameras is None else cameras
        seen = {camera: self.read_pictures(camera, *steps) for camera in chosen}
        return replace(episode, pictures=seen) if seen else episode

    def _block(self, start: int, stop: int) -> list[Episode]:
        """Read episodes `start` to `stop`, each array once."""
        begin = int(self.episode_ends[start - 1]) if start else 0
        ends = self.episode_ends[start:stop] - begin
        data = self._rows("data/", None, begin, begin + int(ends[-1]))
        scalars = self._rows("meta/", None, start, stop)
        return layout.split_episodes(data, scalars, ends, self.observation_sizes)

    def append(self, episode: Episode) -> None:
        """Add one episode as `extend` does."""
        self.extend([episode])

    def extend(self, episodes: Iterable[Episode]) -> None:
        """Add episodes, all or none, whatever interrupts it.

        Raises StoreError for an episode that does not fit the store, a full disk, a read-only
        store, and if another process is writing or has written since this store was opened;
        earlier episodes survive.
        """
        self._check_writable()
        rows = [
            rules.episode_rows(self.path, self.columns, len(self) + i, episode)
            for i, episode in enumerate(episodes)
        ]
        if not rows:
            return
        ends = self.n_steps + np.cumsum([len(row["data/action"]) for row in rows], dtype=np.int64)
        columns = rules.end_to_end(rows)
        columns[ENDS] = ends
        grown = {name: sums.sum_rows(columns[name], self._sums[name]) for name in self._sums}
        with writing(self.path, len(self)):
            (self.path / APPENDING).touch()
            for name, values in columns.items():
                array, start = self._arrays[name], self._length(name)
                array.resize((start + len(values), *array.shape[1:]))
                array[start:] = values
            self._commit({**self.attributes, "episodes": len(self) + len(rows)}, grown)
            self.episode_ends = np.concatenate([self.episode_ends, ends])
            (self.path / APPENDING).unlink()

    def update_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Replace or add attributes, all or none; raises StoreError for those of the schema."""
        self._check_writable()
        rules.check_names(self.path, attributes)
        with writing(self.path, len(self)):
            self._commit({**self.attributes, **attributes}, self._sums)

    def require(
        self,
        *,
        action_size: int | None = None,
        observation_sizes: Mapping[str, int] | None = None,
        versions: Mapping[str, str] | None = None,
        strict: bool = False,
        **attributes: Any,
    ) -> None:
        """Check for these attributes (`task=...`, any name), sizes and simulator versions.

        Raises StoreError with both values; other versions raise it only if `strict` and warn
        otherwise.
        """
        sizes = {"action_size": action_size, "observation_sizes": observation_sizes}
        found = {**self.attributes, **{name: getattr(self, name) for name in sizes}}
        rules.check_wanted(self.path, found, {**attributes, **sizes})
        for message in rules.other_versions(
            self.path, self.attributes.get("versions", {}), versions or {}
        ):
            if strict:
                raise StoreError(message)
            warnings.warn(message, StoreVersionWarning, stacklevel=2)

    def names(self, group: str) -> list[str]:
        """List the arrays of "data/" or "meta/" without that prefix, but `meta/episode_ends` and
        pictures.
        """
        others = {ENDS, *self.picture_arrays.values()}
        return [n[len(group) :] for n in self.columns if n.startswith(group) and n not in others]

    def _rows(
        self, group: str, names: Sequence[str] | None, start: int, stop: int
    ) -> dict[str, np.ndarray]:
        legal = self.names(group)
        chosen = legal if names is None else names
        for name in chosen:
            if name not in legal:
                raise unknown(f"{group} array of {self.path}", name, legal, StoreError)
        found = {
            name: layout.read(self.path, self._arrays[group + name], start, stop) for name in chosen
        }
        if (start, stop) == (0, self._length(group)):
            now = {group + name: sums.sum_rows(rows) for name, rows in found.items()}
            sums.check_same(self.path, now, self._sums)
        return found

    def _length(self, name: str) -> int:
        return self.n_steps if name.startswith("data/") else len(self)

    def _validate(self) -> None:
        ours = "observation_sizes" in self.attributes  # others mean what they like by `episodes`
        episodes = self.attributes["episodes"] if ours else self._arrays[ENDS].shape[0]
        rules.check_length(self.path, self._arrays[ENDS], episodes, "the attribute `episodes`")
        self.episode_ends = layout.read(self.path, self._arrays[ENDS], 0, episodes)
        rules.check_ends(self.path, self.episode_ends)
        lengths = {name: self._length(name) for name in self._arrays}
        self._sums = rules.check_rows(self.path, self._arrays, lengths)
        sums.check_sums(self.path, self.attributes, self._sums)
        if SUMS in self.attributes:
            rules.check_surplus(self.path, self._arrays, lengths, len(self))
        elif not ours:
            rules.check_unended(self.path, self._arrays, self.n_steps)

    def _check_writable(self) -> None:
        if self._group.read_only:
            raise StoreError(f"{self.path}: is open for reading; open a v3 store with mode='a'")

    def _commit(self, attributes: dict[str, Any], rows: dict[str, int]) -> None:
        found = {**sums.sum_files(self.path, self.columns), **rows}
        record = sums.signed(self.path, {**attributes, SUMS: found})
        self._group.update_attributes(record)
        self.attributes, self._sums = record, rows

    def _drop_uncommitted(self) -> None:
        with writing(self.path, len(self)):
            lengths = {name: self._length(name) for name in self._arrays}
            layout.drop_uncommitted(self.path, self._arrays, lengths)
