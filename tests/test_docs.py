"""The architecture page against the files of the checkout."""

import re

from support import ROOT

FOLDERS = ("configs", "datasets", "envs", "policy", "reconverge", "tools")
PAGE = ROOT / "docs" / "architecture.md"


def files_named(page):
    """The files in backticks in the tables of a page, below the folder that the heading names.

    A folder, alone or before a name, holds for the names after it in its row.
    """
    found, top = [], ""
    for line in page.splitlines():
        if line.startswith("## "):
            top = line.removeprefix("## ").partition(":")[0] + "/"
        elif line.startswith("|"):
            folder = ""
            for name in re.findall(r"`([\w/]+(?:\.py|/))`", line):
                before, slash, last = name.rpartition("/")
                folder = before + slash if slash else folder
                found += [top + folder + last] if last else []
    return found


def test_files_named_follows_headings_and_folders():
    page = (
        "## envs\n| `a.py`, `b/c.py`, `d.py` | `TASKS` |\n| `e/` | `f.py` |\n## tools: x\n| `g.py`"
    )
    assert files_named(page) == [
        "envs/a.py",
        "envs/b/c.py",
        "envs/b/d.py",
        "envs/e/f.py",
        "tools/g.py",
    ]


def test_the_architecture_names_every_file_once_and_no_other():
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    files = {path.relative_to(ROOT).as_posix() for path in paths}
    named = files_named(PAGE.read_text())
    assert not sorted(set(named) - files), "named, but no such file"
    unnamed = sorted({name for name in files - set(named) if not name.endswith("__init__.py")})
    assert not unnamed, "name it in docs/architecture.md"
    assert not sorted({name for name in named if named.count(name) > 1})
