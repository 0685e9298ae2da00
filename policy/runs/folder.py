"""A run's folder, which one process at a time works in, and the options that it records."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import is_dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

from filelock import Timeout

from reconverge.configs.store import Command
from reconverge.errors import ReconvergeError
from reconverge.files import lock, remove_empty, write_text
from reconverge.options import option_names, text_options
from reconverge.policy.runs.configuration import (
    FREE_IN_A_SWEEP,
    TRAIN,
    as_yaml,
    from_yaml,
)
from reconverge.policy.runs.loggers import ID_FILE
from reconverge.schema import read_text

Options = TypeVar("Options", bound=Any)  # RunOptions of a kind
OPTIONS_FILE = "config.yaml"
DEMONSTRATIONS_FILE = "demonstrations.json"
METRICS_FILE, CHECKPOINTS = "metrics.jsonl", "checkpoints"
LOCK = ".lock"
HEAD = "# The options of this run; type a change: reconverge train resume=<run> name=value\n"
DIGEST = "# sha256 of the lines below: "


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Work alone in the folder of a run, which is made if need be; no empty one is left.

    ReconvergeError where another process works there, or where it cannot be written.
    """
    with ExitStack() as stack:
        stack.callback(remove_empty, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock(folder / LOCK, timeout=0))
        except Timeout:
            raise ReconvergeError(
                f"{folder}: another process works on this run; wait until it has ended, or choose "
                "another name="
            ) from None
        except OSError as error:
            raise ReconvergeError(
                f"{folder}: cannot be written ({error}); check the rights, or choose another name="
            ) from error
        yield


def open_run(options: Options, folder: Path, in_sweep: bool, command: Command = TRAIN) -> Options:
    """Return the options to go on with: those recorded in a folder that holds a run already.

    ReconvergeError where the folder holds a run and these options neither resume it nor, in a
    sweep that is typed again, describe it.
    """
    if not (folder / OPTIONS_FILE).exists():
        return options
    if not in_sweep:
        resume = shlex.quote(f"resume={folder}")
        raise ReconvergeError(
            f"{folder} holds a run already; continue it with {resume}, or choose another name="
        )
    return _same_run(options, folder, command)


def recorded_options(folder: Path, command: Command = TRAIN) -> Any:
    """Read the options of a run in `folder`; ReconvergeError where somebody edited them."""
    path = folder / OPTIONS_FILE
    if not path.exists():
        raise ReconvergeError(f"{path}: no such file; give the directory of a run")
    head, _, rest = read_text(path).removeprefix(HEAD).partition("\n")
    if head != DIGEST + _digest(rest):
        resume = shlex.quote(f"resume={folder}")
        raise ReconvergeError(
            f"{path}: is not as it was written; restore it, and type what is to change: "
            f"reconverge {command.name} {resume} name=value"
        )
    return from_yaml(path, command)


def record_options(options: Any, folder: Path) -> None:
    """Write the options of a run into its folder, with paths that hold from any directory."""
    options = replace(options, resume=None)
    for name, kind in text_options(options):
        if kind == "path" and (path := flat(options)[name]):
            options = replaced(options, name, str(Path(path).absolute()))
    text = as_yaml(options)
    write_text(folder / OPTIONS_FILE, f"{HEAD}{DIGEST}{_digest(text)}\n{text}")


def forget(folder: Path) -> bool:
    """Remove what a run recorded that has learned nothing; return whether it had not."""
    lines = folder / METRICS_FILE
    if (folder / CHECKPOINTS).exists() or (lines.exists() and lines.stat().st_size):
        return False
    for name in (OPTIONS_FILE, DEMONSTRATIONS_FILE, METRICS_FILE, ID_FILE):
        (folder / name).unlink(missing_ok=True)
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _same_run(options: Options, folder: Path, command: Command) -> Options:
    """Return the recorded options, those of FREE_IN_A_SWEEP as typed now.

    ReconvergeError where any other option differs.
    """
    begun = recorded_options(folder, command)
    was, asked = flat(begun), flat(options)
    for name, value in asked.items():
        if name not in FREE_IN_A_SWEEP and was.get(name) != value:
            raise ReconvergeError(
                f"{folder} holds a run with {name}={was.get(name)}, not {value}; choose another "
                "sweep="
            )
    for name in FREE_IN_A_SWEEP:
        if name in asked:
            begun = replaced(begun, name, asked[name])
    return begun


def replaced(options: Any, name: str, value: Any) -> Any:
    """Return options with the value of a dotted name replaced."""
    first, _, rest = name.partition(".")
    new = replaced(getattr(options, first), rest, value) if rest else value
    return replace(options, **{first: new})


def flat(options: Any) -> dict[str, Any]:
    """Return the values of all options by their dotted names."""
    found = {name: reduce(getattr, name.split("."), options) for name in option_names(options)}
    return {name: value for name, value in found.items() if not is_dataclass(value)}
