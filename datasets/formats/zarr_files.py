"""Arrays of zarr v2 or v3, in a directory or in an archive that is read where it lies."""

import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numcodecs.errors
import numpy as np
import zarr
import zarr.errors
from zarr.storage import LocalStore, ZipStore

from reconverge.datasets.formats.arrays import RESTORE, ConversionError
from reconverge.datasets.layout import Column, check_links
from reconverge.errors import one_line

METADATA = (".zarray", "zarr.json")  # the file that describes an array in v2 and in v3
UNKNOWN_CODEC = (numcodecs.errors.UnknownCodecError, zarr.errors.UnknownCodecError)
BLOSC_HEADER = 16  # bytes; the last four hold the length of the whole


class UnknownCodec(ConversionError):
    """An array is in a codec that is not known here; `column` are its type and a row's shape."""

    def __init__(self, where: str, codec: str, column: Column) -> None:
        super().__init__(f"{where} is in the unknown codec {codec}; write it again in another")
        self.codec = codec
        self.column = column


@dataclass(frozen=True)
class ZarrFiles:
    """List the files of a zarr group but hidden ones, and open its arrays."""

    source: str
    root: Path | zipfile.Path
    store: LocalStore | ZipStore
    place: str  # of the root in the store
    files: tuple[str, ...]  # by their paths below the root

    @property
    def version(self) -> int:
        return 3 if "zarr.json" in self.files else 2

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the group."""
        if self.version == 3:
            return self._json("zarr.json").get("attributes", {})
        return self._json(".zattrs") if ".zattrs" in self.files else {}

    def names(self, group: str) -> list[str]:
        """List the arrays in a group and in groups in it, by their paths below it."""
        found = [file.rpartition("/") for file in self.files if file.startswith(f"{group}/")]
        places = sorted(place for place, _, last in found if last == METADATA[self.version - 2])
        if self.version == 3:
            places = [p for p in places if self._json(f"{p}/zarr.json").get("node_type") == "array"]
        return [place.removeprefix(f"{group}/") for place in places]

    def open(self, name: str) -> zarr.Array:
        """Open an array. Raises ConversionError, also for chunks that are truncated, and
        UnknownCodec.
        """
        metadata = f"{name}/{METADATA[self.version - 2]}"
        described = self._json(metadata)
        if self._try(metadata, lambda: _last_codec(described)) == "blosc":
            self._check_chunks(name)
        path = f"{self.place}{name}"
        try:
            return zarr.open_array(self.store, path=path, mode="r")
        except UNKNOWN_CODEC as error:
            codec = str(error).rpartition(": ")[2].strip("'")
            column = self._try(metadata, lambda: _column(described))
            raise UnknownCodec(f"{self.source}: {name}", codec, column) from error
        except Exception as error:  # edited JSON can fail anywhere in zarr
            raise self._damaged(metadata, error) from error

    def read(self, array: zarr.Array, name: str, start: int, stop: int) -> np.ndarray:
        """Read rows of an array."""
        where = f"{name} rows {start} to {stop - 1}"
        return self._try(where, lambda: np.asarray(array[start:stop]))

    def lacking(self, array: zarr.Array) -> tuple[int, int]:
        """Return how many of the files of chunks, or of shards, are not there, and of how many."""
        above = f"{array.path.removeprefix(self.place)}/"
        own = [file for file in self.files if file.startswith(above)]
        there = sum(not file.endswith((*METADATA, ".zattrs")) for file in own)
        grid = zip(array.shape, array.shards or array.chunks, strict=True)
        whole = math.prod(-(-length // step) for length, step in grid)
        return max(0, whole - there), whole

    def _json(self, file: str) -> dict[str, Any]:
        return self._try(file, lambda: dict(json.loads((self.root / file).read_text("utf-8"))))

    def _check_chunks(self, name: str) -> None:
        """Refuse truncated Blosc chunks; numcodecs would read beyond their end."""
        for file in self.files:
            if not file.startswith(f"{name}/") or file.endswith(METADATA) or ".zattrs" in file:
                continue
            stated, size = self._try(file, partial(_lengths, self.root / file))
            if stated != size:
                raise ConversionError(
                    f"{self.source}: {file} is truncated: {size} of {stated} bytes; {RESTORE}"
                )

    def _try(self, what: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:  # damaged bytes can fail in any codec
            raise self._damaged(what, error) from error

    def _damaged(self, what: str, error: Exception) -> ConversionError:
        return ConversionError(
            f"{self.source}: {what} cannot be read, truncated or edited "
            f"({one_line(error)}); {RESTORE}"
        )


def _lengths(chunk: Path | zipfile.Path) -> tuple[int, int]:
    """Return the bytes that a Blosc chunk says it has, and those there are."""
    with chunk.open("rb") as opened:
        return int.from_bytes(opened.read(BLOSC_HEADER)[12:], "little"), opened.seek(0, 2)


def _last_codec(described: dict[str, Any]) -> str | None:
    """Return what made the bytes of a chunk, by the metadata of v2 or v3."""
    if "codecs" in described:
        return described["codecs"][-1]["name"]
    return (described["compressor"] or {}).get("id")


def _column(described: dict[str, Any]) -> Column:
    """Return the type and the shape of a row, by the metadata of v2 or v3."""
    kind = described["dtype"] if "dtype" in described else described["data_type"]
    return np.dtype(kind), tuple(described["shape"][1:])


def find_group(path: Path, array: str) -> ZarrFiles:
    """Find the group that holds an array: at a path, or anywhere in what is there.

    Raises ConversionError where there is none, or several that are not in one another, and for
    linked folders.
    """
    root: Path | zipfile.Path = path if path.is_dir() else _archive(path)
    if isinstance(root, Path):
        check_links(path, ConversionError)
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        store: LocalStore | ZipStore = LocalStore(path)
    else:
        names = [name for name in root.root.namelist() if not name.endswith("/")]
        store = ZipStore(path)
    tops = [_top(name, array) for name in names if not _is_hidden(name)]
    found = {top for top in tops if top is not None}
    outer = sorted(t for t in found if not any(t != o and t.startswith(o) for o in found))
    if not outer:
        raise ConversionError(f"{path}: {array} is missing: no replay buffer; {RESTORE}")
    if len(outer) > 1:
        raise ConversionError(
            f"{path}: holds {len(outer)} replay buffers: {', '.join(outer)}; give the path of a "
            "single one, unpacked if it is in an archive"
        )
    top = outer[0]
    inside = sorted(name.removeprefix(top) for name in names if name.startswith(top))
    visible = tuple(name for name in inside if not _is_hidden(name))
    return ZarrFiles(str(path), root / top if top else root, store, top, visible)


def _top(name: str, array: str) -> str | None:
    """Return what is above the array whose metadata this file is, if it is."""
    above, found, file = f"/{name}".rpartition(f"/{array}/")
    return f"{above}/".removeprefix("/") if found and file in METADATA else None


def _archive(path: Path) -> zipfile.Path:
    if not path.is_file():
        raise ConversionError(f"{path}: no such file; give a .zarr directory or a .zarr.zip file")
    try:
        return zipfile.Path(zipfile.ZipFile(path))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ConversionError(f"{path}: no archive, or truncated ({error}); {RESTORE}") from error


def _is_hidden(name: str) -> bool:
    *folders, last = name.split("/")
    hidden = last.startswith(".") and last not in (".zarray", ".zgroup", ".zattrs")
    return hidden or any(folder.startswith(".") for folder in folders)
