"""Paths and names that a user typed: what they stand for, and whether they can be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from reconverge.errors import ReconvergeError

LONGEST = 200  # bytes of a part of a name; file systems take 255


def expanded(path: str) -> str:
    """Return a path with its `~` and `$VAR` replaced as a shell would."""
    return os.path.expanduser(os.path.expandvars(path))


def check_name(option: str, name: str) -> None:
    """Raise ReconvergeError unless `name` is that of a folder inside another."""
    parts = name.split("/")
    if {"", ".", "..", "~"} & set(parts):
        wrong = "must name a folder inside runs/"
    elif not name.isprintable() or "${" in name:
        wrong = "holds ${ or characters that cannot be printed"
    elif max(len(os.fsencode(part)) for part in parts) > LONGEST:
        wrong = f"is longer than {LONGEST} bytes"
    else:
        return
    raise ReconvergeError(f"{option}={name!r}: {wrong}; give a name such as mine or group/mine")


def check_output(
    path: Path, option: str = "output", *, suffixes: Collection[str] = (), folder: bool = False
) -> None:
    """Raise ReconvergeError for what could not be written at `path`, before the work for it.

    `suffixes` are the legal ones of a file. A folder may be there already, and so may a file,
    which is to be replaced. Nothing is left behind.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise ReconvergeError(f"{option}={path}: must end in {' or '.join(suffixes)}")
    kind = "folder" if folder else "file"
    try:
        if path.exists() and not (path.is_dir() if folder else path.is_file()):
            raise ReconvergeError(f"{option}={path}: is no {kind}; choose another path")
        above = path if folder else path.parent
        while not above.exists() and above != above.parent:
            above = above.parent
        with tempfile.TemporaryDirectory(dir=above) as probe:
            for part in path.parts[len(above.parts) :]:
                (Path(probe) / part).mkdir()
    except ReconvergeError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ReconvergeError(
            f"{option}={path}: cannot be written ({reason}); choose another path or check the "
            "rights"
        ) from error


def json_output(path: str | None) -> Path | None:
    """Return the file that `output=` names for results, if any, once it passes `check_output`."""
    if path is None:
        return None
    check_output(Path(path), suffixes=(".json",))
    return Path(path)
