"""Paths and names that a user typed."""

from pathlib import Path

import pytest

from reconverge.errors import ReconvergeError
from reconverge.paths import check_name, check_output, expanded


def test_expanded_replaces_home_and_variables(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.delenv("NOTHING", raising=False)
    assert expanded("~/a b") == "/home/me/a b"
    assert expanded("$DATA/${DATA}") == "/data//data"
    assert expanded("a~/$NOTHING/it's") == "a~/$NOTHING/it's"


@pytest.mark.parametrize("name", ["mine", "group/mine", "ünder 1", "it's", "a,b=c", "..a", "a\\b"])
def test_check_name_takes_names(name):
    check_name("name", name)


BAD_NAMES = ["", ".", "..", "a/../..", "a/./b", "/tmp/x", "a//b", "a/", "~", "~/a", "a\nb", "a\0b"]


@pytest.mark.parametrize("name", [*BAD_NAMES, "\x1b[31m", "a${b}", "x" * 256, "ü" * 128])
def test_check_name_refuses_what_is_no_folder_inside_another(name):
    with pytest.raises(ReconvergeError, match=r"^name=.*; give a name such as mine") as caught:
        check_name("name", name)
    assert "\n" not in str(caught.value)


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_check_output_takes_what_can_be_written_and_leaves_nothing(tmp_path):
    (tmp_path / "old.json").write_text("old")
    before = listing(tmp_path)
    check_output(tmp_path / "new.json", suffixes=(".json",))
    check_output(tmp_path / "a" / "b" / "new.JSON", suffixes=(".json",))
    check_output(tmp_path / "old.json")
    check_output(tmp_path, folder=True)
    check_output(tmp_path / "c" / "d", folder=True)
    assert listing(tmp_path) == before
    assert (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize(
    ("path", "options", "said"),
    [
        ("x.txt", {"suffixes": (".mp4", ".gif")}, "must end in .mp4 or .gif"),
        ("folder", {}, "is no file"),
        ("file", {"folder": True}, "is no folder"),
        ("file/x", {}, "Not a directory"),
        ("x" * 300, {}, "File name too long"),
        ("a/" + "x" * 300 + "/b", {}, "File name too long"),
        ("a\0b", {}, "null"),
        ("/proc/nowhere/x", {}, "No such file"),
        ("/dev/null", {}, "is no file"),
    ],
)
def test_check_output_refuses_what_cannot(tmp_path, monkeypatch, path, options, said):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("kept")
    before = listing(tmp_path)
    with pytest.raises(ReconvergeError, match=rf"^output=.*{said}"):
        check_output(Path(path), **options)
    assert listing(tmp_path) == before
