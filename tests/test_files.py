"""Writing is whole or not at all, for files and folders, whatever is raised or killed."""

import errno
import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import Timeout

from reconverge.errors import ReconvergeError
from reconverge.files import (
    ABANDONED_AFTER,
    alone,
    creating,
    lock,
    partial_files,
    remove_abandoned,
    remove_empty,
    replacing,
    write_json,
    write_text,
)

WRITERS = (replacing, creating)


class Killed(BaseException):
    """Stands for Ctrl-C: no handler of `Exception` sees it."""


def make(path, kind, text):
    if kind == "folder":
        (path / "inside").mkdir(parents=True)
        path = path / "inside" / "text"
    path.write_text(text)


def content(path):
    return (path / "inside" / "text" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("new", ["file", "folder"])
@pytest.mark.parametrize("old", ["nothing", "file", "folder", "link"])
def test_replacing_gives_the_new_content_the_name(tmp_path, old, new):
    path = tmp_path / "out" / "target.x"
    if old == "link":
        make(tmp_path / "elsewhere", "folder", "kept")
        path.parent.mkdir()
        path.symlink_to(tmp_path / "elsewhere")
    elif old != "nothing":
        path.parent.mkdir()
        make(path, old, "old")
    with replacing(path) as temporary:
        assert temporary.suffix == ".x"
        make(temporary, new, "new")
    assert content(path) == "new"
    assert list(path.parent.iterdir()) == [path]
    assert old != "link" or content(tmp_path / "elsewhere") == "kept"


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "error",
    [ReconvergeError("no"), OSError(errno.ENOSPC, "No space left"), RuntimeError(), Killed()],
)
def test_replacing_and_creating_leave_nothing_of_what_failed(tmp_path, kind, write, error):
    if write is replacing:
        make(tmp_path / "target", kind, "old")
    before = list(tmp_path.iterdir())
    wanted = ReconvergeError if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted), write(tmp_path / "target") as temporary:  # noqa: PT012
        make(temporary, kind, "half")
        raise error
    assert list(tmp_path.iterdir()) == before
    assert write is creating or content(tmp_path / "target") == "old"


@pytest.mark.parametrize("write", WRITERS)
def test_replacing_and_creating_name_the_path_in_one_line(tmp_path, write):
    path = tmp_path / "no" / "target"
    with pytest.raises(ReconvergeError) as found, write(path) as temporary:
        (temporary / "x").write_text("no folder is there")
    line = str(found.value)
    assert line.startswith(f"{path}: cannot be written (")
    assert "free disk space" in line
    assert ".partial" not in line
    assert "\n" not in line
    with pytest.raises(ReconvergeError) as found, write(path) as temporary:
        raise ReconvergeError(f"{temporary}/data: is not finite")
    assert str(found.value) == f"{path}/data: is not finite"


def test_replacing_keeps_the_old_folder_if_nothing_was_made(tmp_path):
    make(tmp_path / "target", "folder", "old")
    with pytest.raises(ReconvergeError, match="cannot be written"), replacing(tmp_path / "target"):
        pass
    assert content(tmp_path / "target") == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]


KILL = """
import os, sys
from pathlib import Path
from reconverge.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    (temporary / "text").write_text("new")
    if sys.argv[2] == "between":
        Path.replace = lambda *_: os._exit(9)
    elif sys.argv[2] == "while making":
        os._exit(9)
    print("made", flush=True)
    if sys.argv[2] == "live":
        input()
"""


def kill(path, moment):
    assert subprocess.run([sys.executable, "-c", KILL, str(path), moment]).returncode == 9


def test_replacing_loses_nothing_if_killed_between_its_renames(tmp_path):
    make(tmp_path / "target", "folder", "old")
    kill(tmp_path / "target", "between")
    (partial,) = partial_files(tmp_path)
    assert content(partial / "old" / "target") == "old"
    assert not (tmp_path / "target").exists()
    remove_abandoned(tmp_path)
    assert (tmp_path / "target" / "text").read_text() == "new"
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize("write", WRITERS)
def test_the_next_writer_removes_what_killed_ones_left(tmp_path, write):
    kill(tmp_path / "a.x", "while making")
    assert len(partial_files(tmp_path)) == 1
    with write(tmp_path / "b") as temporary:
        temporary.write_text("b")
    assert os.listdir(tmp_path) == ["b"]


def test_the_next_writer_leaves_one_at_work_alone(tmp_path):
    live = subprocess.Popen(
        [sys.executable, "-c", KILL, str(tmp_path / "a"), "live"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert live.stdout.readline() == "made\n"
    write_text(tmp_path / "b", "b")
    assert len(partial_files(tmp_path)) == 1
    live.communicate("\n")
    assert live.returncode == 0
    assert (tmp_path / "a" / "text").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_writers_of_other_hosts_are_given_up_after_a_week(tmp_path):
    kill(tmp_path / "a", "while making")
    (partial,) = partial_files(tmp_path)
    (partial / "host").write_text("elsewhere")
    remove_abandoned(tmp_path)
    assert partial_files(tmp_path) == [partial]
    before = time.time() - ABANDONED_AFTER - 1
    os.utime(partial, (before, before))
    remove_abandoned(tmp_path)
    assert os.listdir(tmp_path) == []


def test_lock_takes_turns_and_leaves_no_file(tmp_path):
    path, inside, most = tmp_path / "x.lock", [], []

    def work(_):
        with lock(path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.001)
            inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(40)))
    assert most == [1] * 40
    assert os.listdir(tmp_path) == []
    with lock(path), pytest.raises(Timeout), lock(path, timeout=0):
        raise AssertionError("held twice")


def test_a_lock_is_open_to_whoever_shares_its_folder(tmp_path):
    before = os.umask(0o077)
    try:
        with lock(tmp_path / "x.lock"):
            assert (tmp_path / "x.lock").stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


def test_alone_names_the_owner_of_a_lock_that_cannot_be_opened(tmp_path, monkeypatch):
    path, opened = tmp_path / "lift.zarr", os.open
    file = path.with_name("lift.zarr.lock")
    file.touch()

    def refuse(name, *rest, **options):
        if str(name) == str(file):
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return opened(name, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    said = rf"^{file}: is a lock of {file.owner()} \(Permission denied\); if nobody works there any"
    with pytest.raises(ReconvergeError, match=said), alone(path):
        raise AssertionError("took it")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch, code):
    def missing(*_):
        raise OSError(code, "No locks available")

    monkeypatch.setattr(fcntl, "flock", missing)
    path = tmp_path / "text"
    said = rf"^{tmp_path}: this file system has no locks \(No locks available\); choose a folder on"
    with pytest.raises(ReconvergeError, match=said), alone(path):
        raise AssertionError("took it")
    with pytest.raises(ReconvergeError, match=r"text/?.*: this file system has no locks"):
        write_text(path, "x")
    assert not path.exists()


def _replace_often(path, name, failed):
    try:
        for i in range(50):
            with replacing(path) as temporary:
                make(temporary, "folder", f"{name} {i}")
    except BaseException as error:
        failed.put(repr(error))
        raise


def test_replacing_by_concurrent_writers_leaves_one_whole_folder(tmp_path):
    path, context = tmp_path / "target", multiprocessing.get_context("fork")
    failed = context.SimpleQueue()
    writers = [context.Process(target=_replace_often, args=(path, i, failed)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed.empty(), failed.get()
    assert content(path) in [f"{i} 49" for i in range(3)]
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_restores_nothing_that_it_has_replaced(tmp_path, monkeypatch):
    """Another writer renames the new folder aside before it puts its own there."""
    path, replace = tmp_path / "target", Path.replace
    make(path, "folder", "old")

    def taken_over(self, target):
        replace(self, target)
        target.rename(tmp_path / "aside of another")

    monkeypatch.setattr(Path, "replace", taken_over)
    with replacing(path) as temporary:
        make(temporary, "folder", "new")
    assert not path.exists()
    assert content(tmp_path / "aside of another") == "new"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_creating_overwrites_nothing(tmp_path, kind):
    path = tmp_path / "target"
    with pytest.raises(ReconvergeError, match="exists already"), creating(path) as temporary:  # noqa: PT012
        make(temporary, kind, "late")
        make(path, kind, "first")  # by another process
    with pytest.raises(ReconvergeError, match="target: exists already"), creating(path):
        raise AssertionError("found out too late")
    assert content(path) == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_write_text_and_write_json_replace_a_file(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_text(path, "not yet")
    write_json(path, {"x": [1]})
    assert json.loads(path.read_text()) == {"x": [1]}
    assert os.listdir(path.parent) == ["b.json"]


def test_partial_files_lists_only_those_of_writers(tmp_path):
    for name in (".a.0.partial", ".b.1.partial.mp4", "partial", "c.partial", ".d"):
        (tmp_path / name).touch()
    assert [path.name for path in partial_files(tmp_path)] == [".a.0.partial", ".b.1.partial.mp4"]
    assert partial_files(Path(tmp_path / "none")) == []


def test_remove_abandoned_keeps_what_no_writer_named(tmp_path):
    names = [".a.partial", f".a.{'0' * 32}.partial.replaced"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / f".a.{'0' * 32}.partial.mp4").touch()
    os.utime(tmp_path / f".a.{'0' * 32}.partial.mp4", (0, 0))
    remove_abandoned(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_remove_empty_removes_what_is_empty_below_the_current_folder(tmp_path, monkeypatch):
    here = tmp_path / "here"
    (here / "runs" / "a").mkdir(parents=True)
    monkeypatch.chdir(here)
    remove_empty(here)
    remove_empty(Path())
    remove_empty(here / "runs")  # holds something
    assert (here / "runs" / "a").exists()
    remove_empty(Path("runs/a"))
    assert list(here.iterdir()) == []
    (tmp_path / "elsewhere" / "a").mkdir(parents=True)
    remove_empty(tmp_path / "elsewhere" / "a")
    assert list((tmp_path / "elsewhere").iterdir()) == []
