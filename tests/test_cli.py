"""The command `reconverge`: its sub-commands, its help, and the front doors behind them."""

import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from reconverge import cli
from support import ROOT


def call(arguments, monkeypatch, capsys):
    """The exit code, and what was printed."""
    monkeypatch.setattr(sys, "argv", ["reconverge", *arguments])
    try:
        cli.main()
        code = 0
    except SystemExit as exit:
        code = exit.code or 0
    return code, capsys.readouterr()


def test_main_lists_every_command(monkeypatch, capsys):
    code, printed = call(["--help"], monkeypatch, capsys)
    assert code == 0
    for command, (_, line) in cli.COMMANDS.items():
        assert f"\n  {command} " in printed.out
        assert line in printed.out
    for arguments in ([], ["-h"], ["benchmark"], ["benchmark", "--help"]):
        assert call(arguments, monkeypatch, capsys)[1].out == printed.out


def test_main_prints_the_version(monkeypatch, capsys):
    assert call(["--version"], monkeypatch, capsys)[1].out.strip() == version("reconverge")


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("trian", "'train'"),
        ("export_video", "'export-video'"),
        ("benchmark simulate", "'benchmark simulation'"),
    ],
)
def test_main_answers_an_unknown_command_in_one_line(monkeypatch, capsys, typed, near):
    code, printed = call(typed.split(), monkeypatch, capsys)
    assert code == 2
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert f"'{typed}'" in printed.err
    assert f"did you mean {near}?" in printed.err


def test_commands_are_all_front_doors():
    """Every module with a `main` is a sub-command, and every sub-command is one."""
    doors = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in ("policy", "tools")
        for path in (ROOT / folder).rglob("*.py")
        if "\ndef main(" in path.read_text()
    }
    assert {module for module, _ in cli.COMMANDS.values()} == doors
    assert all(find_spec(f"reconverge.{door}") for door in doors)


@pytest.mark.parametrize("command", ["collect", "evaluate"])
def test_main_hands_on_to_the_front_door(monkeypatch, capsys, command):
    code, printed = call([command, "--help"], monkeypatch, capsys)
    assert code == 0
    assert printed.out.startswith(f"usage: reconverge {command} ")
    code, printed = call([command, "workres=1"], monkeypatch, capsys)
    assert code == 2
    assert "did you mean 'workers'?" in printed.err


def test_module_is_the_command(tmp_path):
    """From any directory, and without loading what the sub-commands need."""
    code = (
        "import sys; sys.argv[1:] = ['--help']; import runpy\n"
        "runpy.run_module('reconverge', run_name='__main__')\n"
        "print({'torch', 'hydra', 'mujoco', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: reconverge COMMAND")
    assert done.stdout.endswith("set()\n")


def code_and_errors(arguments, stdout, buffered):
    """The exit code of `reconverge` where stdout is this, and what it said on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "reconverge", *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_main_ends_quietly_where_nobody_reads_on(arguments, buffered):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert code_and_errors(arguments, writer, buffered) == (2, "")
    finally:
        os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("buffered", [True, False])
def test_main_says_in_one_line_that_stdout_is_full(buffered):
    with open("/dev/full", "w") as full:
        code, said = code_and_errors(["--help"], full, buffered)
    assert code == 2
    assert said == "error: stdout: No space left on device; print to another place\n"


def test_main_repeats_no_escapes_of_an_unknown_command(monkeypatch, capsys):
    code, printed = call(["--\x9b2J"], monkeypatch, capsys)
    assert code == 2
    assert printed.err.removesuffix("\n").isprintable()
