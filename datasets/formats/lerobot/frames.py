"""The data files of a LeRobot dataset: parquet tables with one row a frame."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reconverge.datasets.formats.arrays import RESTORE, ConversionError, Field, check_rows
from reconverge.datasets.formats.exchange import BATCH_STEPS
from reconverge.errors import one_line

INFO = "meta/info.json"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILE_BYTES = 100 * 2**20  # of numbers in a data file, LeRobot's own limit
CHUNK_FILES = 1_000
RAW_STEPS = 256  # read at a time of columns whose rows are files of pictures
ARROW_NAMES = {"halffloat": "float16", "float": "float32", "double": "float64"}


class DataFiles:
    """Append tables to data files; begin a new one if the last has FILE_BYTES."""

    def __init__(self, folder: Path):
        self._folder, self._number, self._bytes = folder, -1, FILE_BYTES
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "DataFiles":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()

    def write(self, table: pa.Table) -> dict[str, int]:
        """Append a table; return the numbers of its file."""
        if self._writer is None or self._bytes >= FILE_BYTES:
            self.__exit__()
            self._number, self._bytes = self._number + 1, 0
            path = self._folder / DATA.format(**place_of(self._number))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(
                path, table.schema, compression="snappy", write_page_checksum=True
            )
        self._writer.write_table(table)
        self._bytes += table.nbytes
        return place_of(self._number)


def place_of(number: int) -> dict[str, int]:
    """Return the chunk of a file and its number in that, as names of files have them."""
    return {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}


def read_frames(
    path: Path,
    features: Mapping[str, Field],
    lengths: dict[int, int],
    info: dict[str, Any],
    raw: Collection[str] = (),
) -> Iterator[tuple[dict[str, np.ndarray], pa.Table]]:
    """Yield the arrays of every episode by feature, and its rows with the `raw` columns.

    Those in `lengths` must have that length.
    """
    waiting: list[pa.Table] = []
    number = 0
    steps = RAW_STEPS if raw else BATCH_STEPS
    for table in _batches(path, [*features, *raw, "episode_index", "frame_index"], steps):
        indices = table["episode_index"].to_numpy()
        edges = np.flatnonzero(np.diff(indices, prepend=indices[0] - 1))
        for start, stop in zip(edges, [*edges[1:], len(indices)], strict=True):
            if indices[start] != number:
                yield _episode_rows(path, number, waiting, features, lengths)
                number, waiting = number + 1, []
            if indices[start] != number or number >= info["total_episodes"]:
                raise ConversionError(
                    f"{path}: data has episode {indices[start]} where {number} should be; {RESTORE}"
                )
            waiting.append(table.slice(start, stop - start))
    yield _episode_rows(path, number, waiting, features, lengths)
    if number + 1 != info["total_episodes"]:
        raise ConversionError(
            f"{path}: data ends with episode {number} of {info['total_episodes']}; {RESTORE}"
        )


def parquet_files(path: Path, folder: str) -> list[Path]:
    """List the parquet files of a folder's chunks in their order; hidden ones are no data."""
    files = sorted(path.glob(f"{folder}/*/*.parquet"))
    return [file for file in files if not file.relative_to(path).as_posix().count("/.")]


def check_columns(where: str, names: Sequence[str], wanted: Iterable[str]) -> None:
    """Refuse a table whose columns have these names if it has not each wanted one once."""
    for column in wanted:
        if column not in names:
            raise ConversionError(f"{where} lacks {column}; {RESTORE}")
        if (count := names.count(column)) > 1:
            raise ConversionError(
                f"{where} has the column {column} {count} times; remove all but one, or {RESTORE}"
            )


def _batches(path: Path, columns: list[str], steps: int) -> Iterator[pa.Table]:
    files = parquet_files(path, "data")
    if not files:
        raise ConversionError(f"{path}: data has no parquet file; {RESTORE}")
    for file in files:
        name = file.relative_to(path)
        try:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            check_columns(f"{path}: {name}", parquet.schema_arrow.names, columns)
            for batch in parquet.iter_batches(steps, columns=columns):
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise ConversionError(
                f"{path}: {name} is truncated or edited ({one_line(error)}); {RESTORE}"
            ) from error


def _episode_rows(
    path: Path,
    number: int,
    tables: list[pa.Table],
    features: Mapping[str, Field],
    lengths: dict[int, int],
) -> tuple[dict[str, np.ndarray], pa.Table]:
    """Return the arrays and the rows of one episode if its frames are complete."""
    where = f"{path}: episode {number}"
    if not tables:
        raise ConversionError(f"{where}: is missing in data; {RESTORE}")
    table = pa.concat_tables(tables)
    length = lengths.get(number, len(table))
    if len(table) != length or (table["frame_index"].to_numpy() != np.arange(length)).any():
        raise ConversionError(
            f"{where}: frames are missing or repeated, expected {length} in a row; {RESTORE}"
        )
    rows = {}
    for name, field in features.items():
        here = f"{where}: {name}"
        values = _numbers(here, table[name], field.dtype.name, length * field.size)
        rows[name] = check_rows(here, values.reshape(length, -1), length, field.store_type)
    return rows, table


def _numbers(where: str, column: pa.ChunkedArray, dtype: str, count: int) -> np.ndarray:
    """Return all numbers of a column of numbers, or of lists of them, one after another."""
    values = column.combine_chunks()
    values = values.storage if isinstance(values, pa.ExtensionArray) else values
    empty = values.null_count
    while (
        pa.types.is_nested(values.type)
        and hasattr(values, "flatten")
        and not pa.types.is_struct(values.type)
    ):
        values = values.flatten()
        empty += values.null_count
    found = ARROW_NAMES.get(str(values.type), str(values.type))
    if empty or found != dtype or len(values) != count:
        what = f"{len(values)} numbers of type {found}, {empty} empty"
        raise ConversionError(f"{where} has {what}; {INFO} says {count} of {dtype}; {RESTORE}")
    return values.to_numpy(zero_copy_only=False)
