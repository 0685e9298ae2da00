"""diffusion_policy's replay buffers, a zarr v2 directory or the same in a .zarr.zip: read."""

import json
import math
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from datasets.exchange import (
    EPISODE_ATTRIBUTES,
    ConversionError,
    Demonstrations,
    check_left_out,
    check_name,
    check_rows,
    described,
    legal_types,
    make_episode,
    read_episode_attributes,
    row_shapes,
    rows_by_name,
)
from datasets.layout import FLOAT_TYPES, RESERVED, Episode, StoreError
from datasets.store import DemonstrationStore, open_diffusion_policy

OWN = "reconverge"  # attribute of replay buffers that were written here: which arrays are what, in which order
KINDS = ("observations", "extras", "scalars")
RESTORE = "restore or download it again"
BLOSC_HEADER = 16  # bytes; the last four hold the length of the whole
ARCHIVE_BYTES = 2**36  # unpacked, at most


@contextmanager
def read_diffusion_policy(path: Path, leave_out: Collection[str] = ()) -> Iterator[Demonstrations]:
    """The episodes of a replay buffer; every array of real numbers but the action and the reward is an observation.

    Other arrays of `meta` with one number an episode are scalars.
    An archive is unpacked into a temporary folder for as long as the context lasts. Raises ConversionError.
    """
    with _unpacked(path) as folder:
        try:
            names = [file.parent.name for file in folder.glob("data/*/.zarray")]
            check_left_out(str(path), leave_out, [name for name in names if name != "action"])
            _check_chunks(str(path), folder, leave_out)
            store = open_diffusion_policy(folder, leave_out)
            yield _demonstrations(str(path), store, leave_out)
        except StoreError as error:
            raise ConversionError(str(error).replace(str(folder), str(path))) from error


def _check_chunks(source: str, folder: Path, leave_out: Collection[str]) -> None:
    """Each Blosc chunk is as long as its header says; numcodecs would read beyond the end of a truncated one."""
    for file in folder.glob("*/*/.zarray"):
        if file.parent.parent.name == "data" and file.parent.name in leave_out:
            continue
        try:
            compressor = json.loads(file.read_text())["compressor"] or {}
            blosc = compressor.get("id") == "blosc"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            where = f"{source}: {file.relative_to(folder)}"
            raise ConversionError(f"{where} cannot be read, truncated or edited ({error}); {RESTORE}") from error
        if not blosc:
            continue
        for chunk in (path for path in file.parent.rglob("*") if path.is_file() and not path.name.startswith(".")):
            with open(chunk, "rb") as opened:
                stated = int.from_bytes(opened.read(BLOSC_HEADER)[12:], "little")
            if stated != chunk.stat().st_size:
                name = chunk.relative_to(folder)
                raise ConversionError(f"{source}: {name} is truncated: {chunk.stat().st_size} of {stated} bytes")


def _demonstrations(source: str, store: DemonstrationStore, leave_out: Collection[str]) -> Demonstrations:
    columns = {name: store.columns[f"data/{name}"] for name in store.names("data/")}
    for name in (*columns, *store.names("meta/")):
        check_name(source, name)
    observations, extras, scalars = _order(source, store, leave_out)
    if not observations:
        raise ConversionError(f"{source}: there is no observation, only {', '.join(columns)}; choose another file")
    sizes = {name: math.prod(row) for name, (_, row) in columns.items()}
    kinds = {name: dtype.name for name, (dtype, _) in columns.items()}
    attributes = {name: value for name, value in store.attributes.items() if name != OWN}
    if OWN not in store.attributes:
        attributes["row_shapes"] = row_shapes({name: row for name, (_, row) in columns.items()})
    record = {
        **attributes,
        "observation_sizes": {name: sizes[name] for name in observations},
        "action_size": sizes["action"],
        "extra_sizes": {name: sizes[name] for name in extras},
        "scalar_types": {name: store.columns[f"meta/{name}"][0].name for name in scalars},
        "types": {name: kinds[name] for name in kinds if name != "success" and kinds[name] != "float32"},
        "absent": [name for name in ("reward", "success") if name not in columns],
    }
    own = read_episode_attributes(store.path / EPISODE_ATTRIBUTES, len(store))
    episodes = zip(_episodes(source, store, observations, scalars), own, strict=True)
    return described(source, len(store), episodes, record)


def _order(source: str, store: DemonstrationStore, leave_out: Collection[str]) -> list[list[str]]:
    """Names of the observations, extras and scalars: as our writer recorded them, else told by their types."""
    data = [name for name in store.names("data/") if name not in RESERVED]
    observations = [name for name in data if store.columns[f"data/{name}"][0].name in FLOAT_TYPES]
    told = [observations, [name for name in data if name not in observations], store.names("meta/")]
    if OWN not in store.attributes:
        return told
    try:
        stated = [[str(name) for name in store.attributes[OWN][kind]] for kind in KINDS]
    except (KeyError, TypeError) as error:
        raise ConversionError(f"{source}: the attribute {OWN} was edited ({error}); {RESTORE}") from error
    stated[:2] = ([name for name in names if name not in leave_out] for names in stated[:2])
    if sorted([*stated[0], *stated[1]]) != sorted(data) or sorted(stated[2]) != sorted(told[2]):
        raise ConversionError(f"{source}: the attribute {OWN} names other arrays than there are; {RESTORE}")
    return stated


def _episodes(
    source: str, store: DemonstrationStore, observations: list[str], scalars: list[str]
) -> Iterator[Episode]:
    for i, episode in enumerate(store.episodes()):
        length = len(episode.action)
        rows = {
            name: check_rows(f"{source}: episode {i}: {name}", values, length, legal_types(name, name in observations))
            for name, values in rows_by_name(episode, {}).items()
        }
        yield make_episode(rows, observations, {name: episode.scalars[name] for name in scalars})


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The directory itself, or a temporary one with the content of the archive."""
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield _unpack(path, Path(temporary))


def _unpack(path: Path, folder: Path) -> Path:
    """Unpack an archive; where in the folder the replay buffer is."""
    if not path.is_file():
        raise ConversionError(f"{path}: is not there; give a .zarr directory or a .zarr.zip file")
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                place = PurePosixPath(entry.filename)
                if place.is_absolute() or ".." in place.parts or "\\" in entry.filename:
                    raise ConversionError(f"{path}: holds {entry.filename!r}, outside the archive; do not trust it")
            if sum(entry.file_size for entry in archive.infolist()) > ARCHIVE_BYTES:
                raise ConversionError(f"{path}: unpacks to more than {ARCHIVE_BYTES >> 30} GiB; unpack it yourself")
            archive.extractall(folder)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError) as error:
        raise ConversionError(f"{path}: no archive, or truncated ({error}); {RESTORE}") from error
    roots = [root.parent for root in (folder / ".zgroup", *sorted(folder.glob("*/.zgroup"))) if root.exists()]
    roots = [root for root in roots if (root / "data").is_dir()]
    if not roots:
        raise ConversionError(f"{path}: holds no zarr v2 directory with data and meta; {RESTORE}")
    return roots[0]
