"""The one way to write: files and folders appear under their name whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reconverge.errors import ReconvergeError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden, unique path beside `path`; what is made there takes its name at the end.

    Make a file or a folder there. An existing file or folder at `path` is replaced. If anything
    is raised, `path` keeps its content and nothing is left beside it. An OSError (a full disk,
    missing rights) becomes a ReconvergeError; no error names the hidden path, which keeps the
    suffix of `path`, since writers choose a format by it.
    """
    with _hidden(path) as temporary:
        yield temporary
        _take_name(temporary, path)


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Do the same as `replacing`, but raise ReconvergeError if anything exists at `path`."""
    _check_free(path)
    with _hidden(path) as temporary:
        yield temporary
        _check_free(path)  # another process may have been quicker
        temporary.rename(path)


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text`; folders on the way are made."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Replace the file at `path` by `value` as JSON."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def partial_files(folder: Path) -> list[Path]:
    """List the hidden files and folders that killed writers left in `folder`."""
    return sorted(folder.glob(".*.partial*"))


@contextmanager
def _hidden(path: Path) -> Iterator[Path]:
    temporary = path.parent / f".{path.stem}.{uuid.uuid4().hex}.partial{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except ReconvergeError as error:
        error.args = (str(error).replace(str(temporary), str(path)),)
        raise
    except OSError as error:
        reason = str(error).replace(str(temporary), str(path))
        raise ReconvergeError(
            f"{path}: cannot be written ({reason}); free disk space or check the rights"
        ) from error
    finally:
        with suppress(OSError):
            _remove(temporary)


def _take_name(temporary: Path, path: Path) -> None:
    """Rename; a folder is renamed aside first, so that a kill in between does not lose it."""
    aside = temporary.with_name(f"{temporary.name}.replaced")
    try:
        while True:
            if path.is_dir() or (path.exists() and temporary.is_dir()):
                _remove(aside)
                with suppress(FileNotFoundError):  # another writer renamed it first
                    path.rename(aside)
            try:
                temporary.replace(path)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise  # else another writer took the name first: replace what it wrote
    finally:
        if aside.exists() and not path.exists():
            aside.rename(path)
        _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_free(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise ReconvergeError(f"{path}: exists already; delete it, or choose another target")
