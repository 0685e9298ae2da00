"""Attributes of single episodes (robomimic's `model_file`): a .zip of JSON beside the arrays."""

import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.sums import ATTACHED


class EpisodeAttributes:
    """Write `<episode>.json` for each episode with attributes into an archive in `folder`; no
    archive if none has any.

    It takes its name in the end, so that nobody meets half an archive.
    """

    def __init__(self, folder: Path):
        self._path, self._count = folder / ATTACHED, 0
        self._growing = self._path.with_suffix(".growing")
        self._file: zipfile.ZipFile | None = None

    def __enter__(self) -> "EpisodeAttributes":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
            self._growing.rename(self._path)

    def write(self, attributes: Iterable[dict[str, Any]]) -> None:
        """Write the attributes of the next episodes, one dict each."""
        for own in attributes:
            if own:
                self._file = self._file or zipfile.ZipFile(
                    self._growing, "w", zipfile.ZIP_DEFLATED, compresslevel=1
                )
                self._file.writestr(f"{self._count}.json", json.dumps(own))
            self._count += 1


def read_episode_attributes(folder: Path | zipfile.Path, count: int) -> Iterator[dict[str, Any]]:
    """Yield a dict for each of `count` episodes, empty for those without attributes."""
    path = folder / ATTACHED
    if not path.exists():
        yield from ({} for _ in range(count))
        return
    try:
        with path.open("rb") as opened, zipfile.ZipFile(opened) as file:
            names = set(file.namelist())
            for i in range(count):
                yield json.loads(file.read(f"{i}.json")) if f"{i}.json" in names else {}
    except (zipfile.BadZipFile, zlib.error, ValueError, RecursionError, OSError) as error:
        raise ConversionError(f"{path}: truncated or edited ({error}); restore a copy") from error
