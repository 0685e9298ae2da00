"""A run's folder, which one process at a time works in, and the options that it records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from filelock import Timeout

from reconverge.errors import ReconvergeError
from reconverge.files import lock, remove_empty, write_text
from reconverge.options import option_names
from reconverge.policy.runs.configuration import (
    FREE_IN_A_SWEEP,
    TrainOptions,
    as_yaml,
    from_yaml,
)
from reconverge.schema import read_text

OPTIONS_FILE = "config.yaml"
DEMONSTRATIONS_FILE = "demonstrations.json"
BEGUN = ("metrics.jsonl", "checkpoints")  # what there is of a run that has learned anything
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


def open_run(options: TrainOptions, folder: Path, in_sweep: bool) -> TrainOptions:
    """Return the options to go on with: those recorded in a folder that holds a run already.

    ReconvergeError where the folder holds a run and these options neither resume it nor, in a
    sweep that is typed again, describe it.
    """
    if not (folder / OPTIONS_FILE).exists():
        return options
    if not in_sweep:
        raise ReconvergeError(
            f"{folder} holds a run already; continue it with resume={folder}, or choose another "
            "name="
        )
    return _same_run(options, folder)


def recorded_options(folder: Path) -> TrainOptions:
    """Read the options of the run in `folder`; ReconvergeError where somebody edited them."""
    path = folder / OPTIONS_FILE
    if not path.exists():
        raise ReconvergeError(f"{path}: no such file; give the directory of a run")
    head, _, rest = read_text(path).removeprefix(HEAD).partition("\n")
    if head != DIGEST + _digest(rest):
        raise ReconvergeError(
            f"{path}: is not as it was written; restore it, and type what is to change: "
            f"reconverge train resume={folder} name=value"
        )
    return from_yaml(path)


def record_options(options: TrainOptions, folder: Path) -> None:
    """Write the options of a run into its folder, with paths that hold from any directory."""
    absolute = str(Path(options.demonstrations.path).absolute())
    demonstrations = replace(options.demonstrations, path=absolute)
    text = as_yaml(replace(options, demonstrations=demonstrations, resume=None))
    write_text(folder / OPTIONS_FILE, f"{HEAD}{DIGEST}{_digest(text)}\n{text}")


def forget(folder: Path) -> bool:
    """Remove what a run recorded that has learned nothing; return whether it had not."""
    if any((folder / name).exists() for name in BEGUN):
        return False
    for name in (OPTIONS_FILE, DEMONSTRATIONS_FILE):
        (folder / name).unlink(missing_ok=True)
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _same_run(options: TrainOptions, folder: Path) -> TrainOptions:
    """Return the recorded options, those of FREE_IN_A_SWEEP as typed now.

    ReconvergeError where any other option differs.
    """
    begun = recorded_options(folder)
    was, asked = flat(begun), flat(options)
    for name, value in asked.items():
        if name not in FREE_IN_A_SWEEP and was.get(name) != value:
            raise ReconvergeError(
                f"{folder} holds a run with {name}={was.get(name)}, not {value}; choose another "
                "sweep="
            )
    demonstrations = replace(begun.demonstrations, path=options.demonstrations.path)
    free = {spec.name for spec in fields(options)} & set(FREE_IN_A_SWEEP)
    typed = {name: getattr(options, name) for name in free}
    return replace(begun, demonstrations=demonstrations, **typed)


def flat(options: TrainOptions) -> dict[str, Any]:
    """Return the values of all options by their dotted names."""
    found = {name: reduce(getattr, name.split("."), options) for name in option_names(options)}
    return {name: value for name, value in found.items() if not is_dataclass(value)}
