"""The one way to write: files and folders appear under their name whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from reconverge.errors import ReconvergeError

ABANDONED_AFTER = 7 * 24 * 3600  # seconds
LOCK, HOST = "lock", "host"  # in the folder of a writer, beside what it makes
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP)
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{32}\.partial(\.(?!replaced).*)?")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden, unique path beside `path`; what is made there takes its name at the end.

    Make a file or a folder there. An existing file or folder at `path` is replaced. If anything
    is raised, `path` keeps its content and nothing is left beside it. An OSError (a full disk,
    missing rights) becomes a ReconvergeError; no error names the hidden path, which keeps the
    name of `path`, since writers choose a format by its suffix. What killed writers left beside
    `path` is removed first.
    """
    with _hidden(path) as temporary:
        yield temporary
        _take_name(temporary, path)


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Do the same as `replacing`, but raise ReconvergeError if anything exists at `path`."""
    check_free(path)
    with _hidden(path) as temporary:
        yield temporary
        check_free(path)  # another process may have been quicker
        temporary.rename(path)


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text`; folders on the way are made."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replace the file at `path` by `value` as JSON."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def partial_files(folder: Path) -> list[Path]:
    """List the hidden files and folders of writers in `folder`, at work or killed."""
    return sorted(folder.glob(".*.partial*"))


def check_free(path: Path) -> None:
    """Raise ReconvergeError if anything exists at `path`.

    What killed writers left beside it is removed first.
    """
    remove_abandoned(path.parent)
    if path.exists() or path.is_symlink():
        raise ReconvergeError(f"{path}: exists already; delete it, or choose another target")


@contextmanager
def lock(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold the lock file `path`, which is removed in the end; wait for it for `timeout` seconds
    (negative: without end). Whoever shares the folder may take it.

    Raises filelock.Timeout, and ReconvergeError for a file of another user that cannot be opened,
    or a file system without locks. A process that waits notices that the file is gone, and makes
    another.
    """
    try:
        held = FileLock(path, timeout, mode=0o666).acquire()
    except OSError as error:
        if refusal := _refusal(path, error):
            raise ReconvergeError(refusal) from error
        raise
    with held:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _refusal(path: Path, error: OSError) -> str:
    """Say why a lock cannot be taken, "" if its folder is the reason."""
    if error.errno in NO_LOCKS:
        return (
            f"{path.parent}: this file system has no locks ({error.strerror}); choose a folder on "
            "another one, or have it mounted with locks (Lustre: -o flock, NFS: lockd)"
        )
    if not isinstance(error, PermissionError) or not path.exists():
        return ""
    try:
        owner = path.owner()
    except (OSError, KeyError):  # removed by now, or a user whom this machine does not know
        owner = "another user"
    return (
        f"{path}: is a lock of {owner} ({error.strerror}); if nobody works there any more, delete "
        "it, or have it deleted"
    )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time make the store at `path`: the runs of a sweep wait for the first
    and find it made.

    A folder that cannot be written needs no lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        yield
        return
    remove_abandoned(path.parent)
    file = path.with_name(f"{path.name}.lock")
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(file, timeout=0))
        except Timeout:
            tqdm.write(f"waiting for another process that records {path}")
            stack.enter_context(lock(file))
        yield


def remove_abandoned(folder: Path) -> None:
    """Remove what killed writers left in `folder`, and finish a replacement that was all but done.

    A lock, which the system releases with a process, tells them from writers at work. Where it may
    not reach, on another host or in what lacks a host, they are given up after ABANDONED_AFTER.
    """
    for partial in filter(lambda path: _PARTIAL.fullmatch(path.name), partial_files(folder)):
        with suppress(OSError, Timeout, ReconvergeError):
            young = time.time() - partial.stat().st_mtime < ABANDONED_AFTER
            if young and (partial / HOST).read_text("utf-8", errors="replace") != platform.node():
                continue
            if not partial.is_dir():
                partial.unlink()
                continue
            with lock(partial / LOCK, timeout=0):
                for old in partial.glob("old/*"):
                    if not (folder / old.name).exists():
                        (partial / "new" / old.name).rename(folder / old.name)
                _remove(partial)


def remove_empty(folder: Path) -> None:
    """Remove the folder, and those above it below the current one, as far as they are empty."""
    folder, here = folder.resolve(), Path.cwd()
    with suppress(OSError):
        if folder not in (here, *here.parents):
            folder.rmdir()
        for parent in folder.parents:
            if here not in parent.parents:
                break
            parent.rmdir()


@contextmanager
def _hidden(path: Path) -> Iterator[Path]:
    partial = path.parent / f".{path.name}.{uuid.uuid4().hex}.partial"
    temporary = partial / "new" / path.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        temporary.parent.mkdir(parents=True)
        with lock(partial / LOCK):
            (partial / HOST).write_text(platform.node(), "utf-8")
            yield temporary
    except ReconvergeError as error:
        said = str(error).replace(str(temporary), str(path)).replace(str(partial), str(path))
        error.args = (said,)
        raise
    except OSError as error:
        reason = str(error).replace(str(temporary), str(path)).replace(str(partial), str(path))
        raise ReconvergeError(
            f"{path}: cannot be written ({reason}); free disk space or check the rights"
        ) from error
    finally:
        with suppress(OSError):
            _remove(partial)


def _take_name(temporary: Path, path: Path) -> None:
    """Rename; a folder is renamed aside first, so that a kill in between does not lose it."""
    aside = temporary.parent.with_name("old") / path.name
    try:
        while True:
            if path.is_dir() or (path.exists() and temporary.is_dir()):
                _remove(aside)
                aside.parent.mkdir(exist_ok=True)
                with suppress(FileNotFoundError):  # another writer renamed it first
                    path.rename(aside)
            try:
                temporary.replace(path)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise  # else another writer took the name first: replace what it wrote
    except BaseException:
        if aside.exists() and not path.exists():
            with suppress(OSError):  # another writer took the name
                aside.rename(path)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
