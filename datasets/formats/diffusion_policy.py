"""Read diffusion_policy's replay buffers, a zarr v2 directory or the same in a .zarr.zip."""

import json
import math
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from reconverge.datasets.formats.arrays import (
    RESTORE,
    ConversionError,
    check_left_out,
    check_name,
    check_rows,
    legal_types,
)
from reconverge.datasets.formats.episode_attributes import (
    EPISODE_ATTRIBUTES,
    read_episode_attributes,
)
from reconverge.datasets.formats.exchange import (
    Demonstrations,
    make_episode,
    row_shapes,
    rows_by_name,
)
from reconverge.datasets.layout import FLOAT_TYPES, RESERVED, Episode, StoreError
from reconverge.datasets.store import DemonstrationStore

OUR_RECORD = "reconverge"  # root attribute that we write: the names of each group, in their order
GROUPS = ("observations", "extras", "scalars")
BLOSC_HEADER = 16  # bytes; the last four hold the length of the whole
MAX_ARCHIVE_BYTES = 2**36  # unpacked


@contextmanager
def read_diffusion_policy(path: Path, leave_out: Collection[str] = ()) -> Iterator[Demonstrations]:
    """Yield the episodes of a replay buffer; they can be read as long as the context lasts.

    Every array of real numbers but the action and the reward is an observation, others are extras;
    further arrays of `meta` with one number an episode are scalars. An archive is unpacked into a
    temporary folder. Raises ConversionError.
    """
    with _unpacked(path) as folder:
        try:
            names = [file.parent.name for file in folder.glob("data/*/.zarray")]
            check_left_out(str(path), leave_out, [name for name in names if name != "action"])
            _check_chunks(str(path), folder, leave_out)
            store = DemonstrationStore.open_diffusion_policy(folder, leave_out)
            yield _demonstrations(str(path), store, leave_out)
        except StoreError as error:
            raise ConversionError(str(error).replace(str(folder), str(path))) from error


def _check_chunks(source: str, folder: Path, leave_out: Collection[str]) -> None:
    """Refuse truncated Blosc chunks; numcodecs would read beyond their end."""
    for file in folder.glob("*/*/.zarray"):
        if file.parent.parent.name == "data" and file.parent.name in leave_out:
            continue
        try:
            compressor = json.loads(file.read_text())["compressor"] or {}
            blosc = compressor.get("id") == "blosc"
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            where = f"{source}: {file.relative_to(folder)}"
            raise ConversionError(
                f"{where} cannot be read, truncated or edited ({error}); {RESTORE}"
            ) from error
        if not blosc:
            continue
        for chunk in file.parent.rglob("*"):
            if not chunk.is_file() or chunk.name.startswith("."):
                continue
            with open(chunk, "rb") as opened:
                stated = int.from_bytes(opened.read(BLOSC_HEADER)[12:], "little")
            if stated != chunk.stat().st_size:
                name = chunk.relative_to(folder)
                raise ConversionError(
                    f"{source}: {name} is truncated: {chunk.stat().st_size} of {stated} bytes"
                )


def _demonstrations(
    source: str, store: DemonstrationStore, leave_out: Collection[str]
) -> Demonstrations:
    columns = {name: store.columns[f"data/{name}"] for name in store.names("data/")}
    for name in (*columns, *store.names("meta/")):
        check_name(source, name)
    observations, extras, scalars = _order(source, store, leave_out)
    if not observations:
        raise ConversionError(
            f"{source}: has no observation, only {', '.join(columns)}; choose another file"
        )
    sizes = {name: math.prod(row) for name, (_, row) in columns.items()}
    kinds = {name: dtype.name for name, (dtype, _) in columns.items()}
    attributes = {name: value for name, value in store.attributes.items() if name != OUR_RECORD}
    if OUR_RECORD not in store.attributes:
        attributes["row_shapes"] = row_shapes({name: row for name, (_, row) in columns.items()})
    record = {
        **attributes,
        "observation_sizes": {name: sizes[name] for name in observations},
        "action_size": sizes["action"],
        "extra_sizes": {name: sizes[name] for name in extras},
        "scalar_types": {name: store.columns[f"meta/{name}"][0].name for name in scalars},
        "types": {
            name: kinds[name] for name in kinds if name != "success" and kinds[name] != "float32"
        },
        "absent": [name for name in ("reward", "success") if name not in columns],
    }
    own = read_episode_attributes(store.path / EPISODE_ATTRIBUTES, len(store))
    episodes = zip(_episodes(source, store, observations, scalars), own, strict=True)
    return Demonstrations.from_record(source, len(store), episodes, record)


def _order(source: str, store: DemonstrationStore, leave_out: Collection[str]) -> list[list[str]]:
    """Return the names of observations, extras and scalars, by our record or by their types."""
    data = [name for name in store.names("data/") if name not in RESERVED]
    observations = [name for name in data if store.columns[f"data/{name}"][0].name in FLOAT_TYPES]
    extras, scalars = [name for name in data if name not in observations], store.names("meta/")
    if OUR_RECORD not in store.attributes:
        return [observations, extras, scalars]
    try:
        stated = [[str(name) for name in store.attributes[OUR_RECORD][key]] for key in GROUPS]
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


def _episodes(
    source: str, store: DemonstrationStore, observations: list[str], scalars: list[str]
) -> Iterator[Episode]:
    for i, episode in enumerate(store.episodes()):
        length = len(episode.action)
        rows = {
            name: check_rows(
                f"{source}: episode {i}: {name}",
                values,
                length,
                legal_types(name, name in observations),
            )
            for name, values in rows_by_name(episode, {}).items()
        }
        yield make_episode(rows, observations, {name: episode.scalars[name] for name in scalars})


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Yield the directory itself, or a temporary one with the content of the archive."""
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield _unpack(path, Path(temporary))


def _unpack(path: Path, folder: Path) -> Path:
    """Unpack an archive and return the replay buffer in the folder."""
    if not path.is_file():
        raise ConversionError(f"{path}: no such file; give a .zarr directory or a .zarr.zip file")
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                place = PurePosixPath(entry.filename)
                if place.is_absolute() or ".." in place.parts or "\\" in entry.filename:
                    raise ConversionError(
                        f"{path}: holds {entry.filename!r}, outside the archive; do not trust it"
                    )
            if sum(entry.file_size for entry in archive.infolist()) > MAX_ARCHIVE_BYTES:
                raise ConversionError(
                    f"{path}: has more than {MAX_ARCHIVE_BYTES >> 30} GiB; unpack it yourself"
                )
            archive.extractall(folder)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError) as error:
        raise ConversionError(f"{path}: no archive, or truncated ({error}); {RESTORE}") from error
    for root in (folder, *sorted(folder.iterdir())):
        if (root / ".zgroup").exists() and (root / "data").is_dir():
            return root
    raise ConversionError(f"{path}: holds no zarr v2 directory; {RESTORE}")
