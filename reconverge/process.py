"""What a process of ours does at its ends: Ctrl-C, what it prints, and environment variables that
would stop it.
"""

from __future__ import annotations

import ctypes.util
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import Any

INTERRUPTED = 130
"""The exit code after Ctrl-C (SIGINT) or SIGTERM."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
FRONT_DOORS = ("policy.", "tools.", "reconverge")

SET_ASIDE: dict[str, str] = {}
"""The environment variables that `make_usable` found to be of no use, with their values."""
NO_OPENGL = ("disable", "disabled", "off", "false", "0")
WINDOWS = ("", "glfw", "glx", "enable", "enabled", "on", "true", "1")
OFFSCREEN = {"egl": "EGL", "osmesa": "OSMesa"}
"""Values of MUJOCO_GL: those that draw in windows, and those that do not with their libraries."""


class _Interrupt(KeyboardInterrupt):
    """After KeyboardInterrupt itself within `exec`, Python would end as killed, not with a code."""


@contextmanager
def interruptible() -> Iterator[None]:
    """End the program with exit code INTERRUPTED, and no traceback, on Ctrl-C or SIGTERM.

    In between both are a KeyboardInterrupt, so that whatever has begun is tidied up.
    """
    before = _handle_signals(_interrupt)
    hook, sys.unraisablehook = sys.unraisablehook, _interrupt_again(sys.unraisablehook)
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:  # a library's, on its way out of the interrupt
        if comes_of_interrupt(error):
            raise SystemExit(INTERRUPTED) from None
        raise
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def printing() -> Iterator[None]:
    """Print escapes for what the streams cannot encode, and in warnings for what a terminal would
    act on.

    What was printed is written out at the end: OSError where it cannot be.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    plain = warnings.formatwarning
    warnings.formatwarning = lambda *of, **more: printable(plain(*of, **more))
    try:
        yield
        print(end="", flush=True)
    finally:
        warnings.formatwarning = plain
        _drop_unwritten()


def _drop_unwritten() -> None:
    """Let go of what stdout does not take, which Python would try to write again at exit."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """Return a text with escapes for what a terminal would act on, but for the ends of lines."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def report(error: BaseException) -> None:
    """Print one line on stderr."""
    said = " ".join(str(error).split()) or type(error).__name__
    print(f"error: {printable(said)}", file=sys.stderr)


def end_at_once_while_imported() -> None:
    """Let signals end the process without a traceback, if it was started to run a front door.

    Called where imports begin. Nothing has been made that would have to be tidied up, until
    `interruptible`.
    """
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
    if sys.argv[:1] == ["-m"] and module and module[0].startswith(FRONT_DOORS):
        end_at_once()


def end_at_once() -> None:
    """Let signals end the process without a traceback and without tidying up."""
    _handle_signals(lambda number, frame: os._exit(INTERRUPTED))


def leave_to_asyncio() -> None:
    """Let asyncio end its tasks on Ctrl-C and SIGTERM, within `interruptible`."""
    before = _handle_signals(lambda number, frame: signal.raise_signal(signal.SIGINT))
    if signal.SIGINT in before:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the one that asyncio replaces


def _handle_signals(handler: Any) -> dict[signal.Signals, Any]:
    """Set the handler of SIGNALS; return those of before.

    Nothing changes outside the main thread, nor for a signal that whoever started us ignores.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: old for number, old in before.items() if old != signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    return before


def _interrupt(number: int, frame: Any) -> None:
    raise _Interrupt


def _interrupt_again(hook: Any) -> Any:
    """Return a hook for errors that Python would only print: it passes an interrupt on."""

    def again(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]).start()  # once it is over
        else:
            hook(unraisable)

    return again


def comes_of_interrupt(error: BaseException) -> bool:
    """Tell if an error is what became of a KeyboardInterrupt on its way up."""
    chain = [error]
    for link in chain:
        later = link.__cause__ or link.__context__
        if later is not None and later not in chain:  # hydra's errors may be their own causes
            chain.append(later)
    return any(isinstance(link, KeyboardInterrupt) for link in chain)


def make_usable() -> None:
    """Change the environment variables with which MuJoCo, numba and matplotlib could not be used.

    Nothing but pictures needs OpenGL, and they take EGL. Caches that cannot be written are kept in
    a folder for temporary files.
    """
    gl = os.environ.get("MUJOCO_GL", "").lower().strip()
    platform = os.environ.get("PYOPENGL_PLATFORM", "").lower()
    if platform not in ("", "egl", gl):
        _set_aside("PYOPENGL_PLATFORM")
    library = OFFSCREEN.get(gl)
    if not ctypes.util.find_library(library) if library else gl not in (*NO_OPENGL, *WINDOWS):
        _set_aside("MUJOCO_GL")
        os.environ["MUJOCO_GL"] = NO_OPENGL[0]
    if not _numba_can_cache():
        os.environ["NUMBA_CACHE_DIR"] = str(_temporary("numba"))
    chosen = os.environ.get("MPLCONFIGDIR") or _home("XDG_CONFIG_HOME", ".config") / "matplotlib"
    if not _can_write(Path(chosen)):
        os.environ["MPLCONFIGDIR"] = str(_temporary("matplotlib"))


def _set_aside(name: str) -> None:
    SET_ASIDE[name] = os.environ.pop(name)


def _numba_can_cache() -> bool:
    """Tell if numba can write next to every compiled function, or in a folder for all."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return _can_write(Path(chosen))
    found = [find_spec(name) for name in ("reconverge", "robosuite")]
    sources = [Path(spec.origin).parent for spec in found if spec and spec.origin]
    everywhere = _home("XDG_CACHE_HOME", ".cache") / "numba"
    return all(map(_can_write, sources)) or _can_write(everywhere)


def _home(variable: str, folder: str) -> Path:
    return Path(os.environ.get(variable) or os.path.expanduser(f"~/{folder}"))


def _can_write(folder: Path) -> bool:
    """Tell if files can be made in `folder`, which may have to be made first."""
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _temporary(name: str) -> Path:
    """Return a folder that nobody else can write, if possible always the same one."""
    folder = Path(tempfile.gettempdir()) / f"reconverge-{os.getuid()}-{name}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise OSError(f"{folder} belongs to someone else")
    except OSError:
        return Path(tempfile.mkdtemp(prefix=f"reconverge-{name}-"))
    return folder
