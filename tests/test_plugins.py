"""Rows of other installed packages."""

import sys

import pytest

import reconverge
from reconverge.configs import commandline
from reconverge.envs.catalog import TASKS
from reconverge.errors import ReconvergeError
from reconverge.plugins import GROUP, load_plugins
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.runs.configuration import TRAIN

ROWS = """
from dataclasses import dataclass, replace

import reconverge
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.continual.methods.finetune import FinetuneOptions


@dataclass(frozen=True)
class MineOptions(FinetuneOptions):
    \"\"\"Forget gladly.\"\"\"

    name: str = "mine"


METHODS["mine"] = MineOptions
reconverge.TASKS["lift_of_mine"] = replace(reconverge.TASKS["lift"], name="lift_of_mine")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package `mine` whose module holds the given source."""

    def write(source):
        described = tmp_path / "mine-1.0.dist-info"
        described.mkdir()
        (described / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
        (described / "entry_points.txt").write_text(f"[{GROUP}]\nrows = rows_of_mine\n")
        (tmp_path / "rows_of_mine.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)

    for table, name in ((METHODS, "mine"), (TASKS, "lift_of_mine"), (sys.modules, "rows_of_mine")):
        monkeypatch.setitem(table, name, None)  # so that it is gone again at the end
        del table[name]
    return write


def test_the_rows_of_an_installed_package_are_known_everywhere(install):
    install(ROWS)
    options = commandline.compose(TRAIN, ["env=lift", "method=mine", "name=x"])
    assert options.method.name == "mine"
    assert reconverge.get_task("lift_of_mine").simulator == "Lift"
    assert "mine  # Forget gladly." in commandline.help_text(TRAIN)


def test_a_package_that_cannot_be_imported_is_named_in_one_line(install, capsys):
    install("raise RuntimeError('half installed')")
    said = r"plugin rows_of_mine of mine cannot be imported \(RuntimeError: half installed\)"
    for _ in range(2):
        with pytest.raises(ReconvergeError, match=said):
            load_plugins()
    with pytest.raises(SystemExit), commandline.front_door():
        pass
    assert "pip uninstall mine" in capsys.readouterr().err
