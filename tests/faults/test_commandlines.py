"""Malformed command lines: whatever is typed, one line and exit code 2, or a legal command; never a
traceback, and nothing left behind by what was refused.
"""

import os
import shutil
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from reconverge import cli
from reconverge.policy import train
from reconverge.tools import collect
from support.lines import command_lines

COUNT = int(os.environ.get("COMMAND_LINES", "200"))
PARTS = 4


class Began(Exception):
    """What was typed is legal: its work would begin now."""


@pytest.fixture
def only_refused(monkeypatch, tmp_path):
    """Stop where hours of work would begin, in a folder of its own."""

    def begin(*arguments, **options):
        raise Began

    monkeypatch.setattr(train, "learn", begin)
    monkeypatch.setattr(collect, "collect_with_bar", begin)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("seed", range(PARTS))
def test_a_malformed_line_says_one_line_and_leaves_nothing(only_refused, monkeypatch, capsys, seed):
    for name, arguments in command_lines(seed, COUNT // PARTS):
        said = f"{name} {arguments}"
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["reconverge", *name.split(), *arguments])
        try:
            cli.main()
            code = 0
        except Began:
            code = 0
            shutil.rmtree("runs", ignore_errors=True)  # of the run that would begin
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException as error:
            pytest.fail(f"{said}: {type(error).__name__}: {error}")
        out, err = capsys.readouterr()
        assert code in (0, 2), said
        assert "Traceback" not in out + err, said
        if code == 2:
            errors = [line for line in err.splitlines() if line.startswith("error: ")]
            assert errors, f"{said}: {err}"
            assert err.count("\n") == len(errors), f"{said}: {err}"
            assert not list(only_refused.iterdir()), said


@pytest.mark.parametrize("name", ["train", "collect"])
def test_a_legal_line_begins(only_refused, monkeypatch, name):
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["reconverge", name, "env=lift,can"])
    with pytest.raises(Began):
        cli.main()
