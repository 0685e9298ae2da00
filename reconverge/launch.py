"""Train from Python: the run that `reconverge train` makes, in this process."""

from __future__ import annotations

import os
import reprlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from reconverge.configs import commandline
from reconverge.configs.grammar import in_grammar, quoted
from reconverge.errors import ReconvergeError
from reconverge.policy.runs.configuration import TRAIN, TrainOptions
from reconverge.policy.runs.summary import Summary
from reconverge.policy.train import execute


def train(*overrides: str, **options: Any) -> Summary:
    """Learn tasks one after another and return the summary, which is also in `summary.json`.

    Options have the names of the command line, which `reconverge train --help` lists, and come as
    its text or as values, nested ones in mappings:

        train("experiment=smoke", env=["lift", "can"], seed=1, network={"width": 128})

    The run leaves its folder in `runs/<name>`; `resume="runs/<name>"` continues it. One run a
    call; several (`-m`) are for the command line. ReconvergeError for options that the command
    line would refuse.
    """
    for override in overrides:
        if not isinstance(override, str):
            raise ReconvergeError(
                f"{reprlib.repr(override)}: without a name, options are text as on the command line"
            )
    arguments = [*overrides, *_overrides(options)]
    chosen: TrainOptions = commandline.compose(TRAIN, arguments)
    names = commandline.names_of([in_grammar(TRAIN, argument) for argument in arguments])
    if any(name.startswith("hydra") for name in names):
        raise ReconvergeError(
            "hydra's own options are for the command line; here name= names the run's folder"
        )
    folder = Path(chosen.resume) if chosen.resume else Path("runs") / chosen.name
    before = sys.argv[:]
    sys.argv[1:] = arguments  # the summary's `command`, which makes the run again
    try:
        return execute(chosen, folder.absolute(), names)
    finally:
        sys.argv[:] = before


def _overrides(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _overrides(value, f"{prefix}{name}.")
        elif name == "env" and isinstance(value, str):
            yield f"env={value}"
        else:
            yield f"{prefix}{name}={_text(value)}"


def _text(value: Any) -> str:
    """Return the value in hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | os.PathLike):
        return quoted(os.fspath(value))
    if isinstance(value, Sequence):
        return f"[{','.join(map(_text, value))}]"
    if not isinstance(value, Number | np.bool_):
        raise ReconvergeError(
            f"{reprlib.repr(value)}: options are text, numbers and lists of them, tasks their names"
        )
    return str(value)
