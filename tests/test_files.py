"""Writing is whole or not at all, for files and folders, whatever is raised or killed."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconverge.errors import ReconvergeError
from reconverge.files import creating, partial_files, replacing, write_json, write_text

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
    Path.replace = lambda *_: os._exit(9)
"""


def test_replacing_keeps_both_folders_if_killed_between_its_renames(tmp_path):
    make(tmp_path / "target", "folder", "old")
    done = subprocess.run([sys.executable, "-c", KILL, str(tmp_path / "target")])
    assert done.returncode == 9
    new, old = partial_files(tmp_path)
    assert content(old) == "old"
    assert (new / "text").read_text() == "new"
    assert not (tmp_path / "target").exists()


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


def test_partial_files_lists_only_what_writers_left(tmp_path):
    for name in (".a.0.partial", ".b.1.partial.mp4", "partial", "c.partial", ".d"):
        (tmp_path / name).touch()
    assert [path.name for path in partial_files(tmp_path)] == [".a.0.partial", ".b.1.partial.mp4"]
    assert partial_files(Path(tmp_path / "none")) == []
