"""Ctrl-C, what is printed, and environment variables that would stop MuJoCo or numba."""

import ctypes.util
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from reconverge.process import (
    INTERRUPTED,
    SET_ASIDE,
    interruptible,
    make_usable,
    printing,
    report,
)
from reconverge.progress import progress_bar
from support import ROOT


@pytest.fixture(autouse=True)
def heard():
    """Ctrl-C is heard also where whoever started the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def code_of(work):
    """The exit code with which `work` ends the program."""
    with pytest.raises(SystemExit) as stop, interruptible():
        work()
    return stop.value.code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruptible_ends_with_its_code_once_all_is_tidied_up(number):
    before, tidied = signal.getsignal(number), []

    def work():
        try:
            signal.raise_signal(number)
        finally:
            tidied.append(1)

    assert code_of(work) == INTERRUPTED
    assert tidied == [1]
    assert signal.getsignal(number) is before


def test_interruptible_passes_errors_on_but_not_what_an_interrupt_became():
    def import_library():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("a library's") from None

    assert code_of(import_library) == INTERRUPTED
    bug, cause = ValueError("bug"), TypeError()
    bug.__cause__, cause.__cause__ = cause, bug  # as hydra does
    with pytest.raises(ValueError, match="bug"), interruptible():
        raise bug


class Forgetful:
    """Interrupted where Python only prints what is raised."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_interruptible_keeps_an_interrupt_that_python_would_only_print(capsys):
    def work():
        Forgetful()
        time.sleep(1)
        pytest.fail("it went on")

    assert code_of(work) == INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err


STARTED = [
    ("policy.train", signal.SIGINT, ["env=can,lift"]),
    ("policy.evaluate", signal.SIGTERM, ["checkpoint=nothing"]),
    ("tools.report", signal.SIGINT, ["nothing"]),
    ("reconverge", signal.SIGTERM, ["convert", "source=nothing", "target=x.zarr"]),
]


def hears_sigterm(process):
    """Whether a process that has not ended has a handler of SIGTERM, as it first of all sets."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return process.poll() is not None or caught >> (signal.SIGTERM - 1) & 1


@pytest.mark.parametrize(("module", "number", "arguments"), STARTED)
def test_a_signal_while_it_imports_leaves_no_traceback(tmp_path, module, number, arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not hears_sigterm(process):  # Python itself has started
        time.sleep(0.01)
    time.sleep(random.Random(f"{module} {number}").uniform(0, 1))
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    assert process.returncode in (INTERRUPTED, 2)  # 2 where it had ended before


def environment_after(monkeypatch, tmp_path, **given):
    """The variables that `make_usable` leaves of those given, where nothing else can be written."""
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    SET_ASIDE.clear()
    make_usable()
    return {name: os.environ.get(name) for name in given}


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"MUJOCO_GL": "nope"}, {"MUJOCO_GL": "disable"}),
        ({"MUJOCO_GL": "osmesa"}, {"MUJOCO_GL": "disable"}),
        ({"MUJOCO_GL": "egl"}, {"MUJOCO_GL": "egl"}),
        ({"MUJOCO_GL": "off"}, {"MUJOCO_GL": "off"}),
        ({"PYOPENGL_PLATFORM": "glx"}, {"PYOPENGL_PLATFORM": None}),
        ({"PYOPENGL_PLATFORM": "egl"}, {"PYOPENGL_PLATFORM": "egl"}),
    ],
)
def test_make_usable_sets_aside_what_mujoco_would_stop_at(monkeypatch, tmp_path, given, left):
    with monkeypatch.context() as patch:
        patch.setattr(ctypes.util, "find_library", {"EGL": "libEGL.so.1"}.get)
        assert environment_after(patch, tmp_path, **given) == left
    changed = {name: value for name, value in given.items() if left[name] != value}
    assert changed == SET_ASIDE


def test_make_usable_keeps_caches_in_a_temporary_folder_where_it_must(monkeypatch, tmp_path):
    nowhere = {"NUMBA_CACHE_DIR": "/proc/nowhere", "MPLCONFIGDIR": "/proc/nowhere"}
    found = environment_after(monkeypatch, tmp_path, **nowhere)
    for name in nowhere:
        folder = Path(found[name])
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o077 == 0
    assert environment_after(monkeypatch, tmp_path, **nowhere) == found
    Path(found["NUMBA_CACHE_DIR"]).chmod(0o777)  # someone else may have put files there
    assert environment_after(monkeypatch, tmp_path, **nowhere) != found
    kept = {"NUMBA_CACHE_DIR": str(tmp_path / "mine"), "MPLCONFIGDIR": str(tmp_path)}
    assert environment_after(monkeypatch, tmp_path, **kept) == kept


@pytest.mark.parametrize(
    "given",
    [
        {"MUJOCO_GL": "nope"},
        {"HOME": "/proc/nowhere", "NUMBA_CACHE_DIR": "/proc/nowhere"},
    ],
    ids=str,
)
def test_help_needs_no_opengl_and_no_home(tmp_path, given):
    done = subprocess.run(
        [sys.executable, "-m", "reconverge", "collect", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **given},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "episodes: 200" in done.stdout


def test_printing_writes_what_a_stream_cannot_encode_as_escapes(monkeypatch):
    out, err = (TextIOWrapper(BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    table = Table(title="cmpé")
    table.add_column("größe")
    with printing():
        print("cmpé")
        Console().print(table)
        for _ in progress_bar("größe", "Schritte", over=range(2)):
            print("né", file=sys.stderr)
    err.flush()
    assert out.buffer.getvalue().startswith(b"cmp\\xe9\n")
    assert b"gr\\xf6\\xdfe" in out.buffer.getvalue()
    assert b"n\\xe9" in err.buffer.getvalue()
    assert b"2/2" in err.buffer.getvalue()


def test_printing_shows_a_warning_without_what_a_terminal_would_act_on():
    plain = warnings.formatwarning
    with printing():
        said = warnings.formatwarning("left out: \x1b]0;mine\x07", UserWarning, "x.py", 1)
    assert said == "x.py:1: UserWarning: left out: \\x1b]0;mine\\x07\n"
    assert warnings.formatwarning is plain


def test_report_is_one_line_that_a_terminal_only_shows(capsys):
    report(ValueError("two\nlines, \x1b[2J, \x9b2J, \udcff and é"))
    assert capsys.readouterr().err == "error: two lines, \\x1b[2J, \\x9b2J, \\udcff and é\n"
    report(ValueError())
    assert capsys.readouterr().err == "error: ValueError\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_printing_says_at_its_end_what_could_not_be_written():
    """Else Python would say it at exit, with a code of its own."""
    code = (
        "from reconverge.process import printing\n"
        "try:\n"
        "    with printing():\n"
        "        print('whole')\n"
        "except OSError:\n"
        "    raise SystemExit(2)"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, stdout=full, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (2, b"")
