"""A run's folder and the options that it records: begin, resume, or go on with a sweep."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from reconverge.errors import ReconvergeError
from reconverge.files import write_text
from reconverge.options import option_names
from reconverge.policy.runs.configuration import (
    FREE_IN_A_SWEEP,
    TrainOptions,
    as_yaml,
    from_yaml,
)

OPTIONS_FILE = "config.yaml"


def open_run(options: TrainOptions, folder: Path, in_sweep: bool) -> TrainOptions:
    """Return the options to go on with: those recorded in a folder that holds a run already.

    ReconvergeError where the folder holds a run and these options neither resume it nor, in a
    sweep that is typed again, describe it.
    """
    if options.resume:
        return recorded_options(Path(options.resume))
    if not (folder / OPTIONS_FILE).exists():
        return options
    if not in_sweep:
        raise ReconvergeError(
            f"{folder} holds a run already; continue it with resume={folder}, or choose another "
            "name="
        )
    return _same_run(options, folder)


def recorded_options(folder: Path) -> TrainOptions:
    """Read the options of the run in `folder`."""
    return from_yaml(folder / OPTIONS_FILE)


def record_options(options: TrainOptions, folder: Path) -> None:
    """Write the options of a new run into its folder, with paths that hold from any directory."""
    path = folder / OPTIONS_FILE
    if not path.exists():
        absolute = str(Path(options.demonstrations.path).absolute())
        demonstrations = replace(options.demonstrations, path=absolute)
        write_text(path, as_yaml(replace(options, demonstrations=demonstrations)))


def _same_run(options: TrainOptions, folder: Path) -> TrainOptions:
    """Return the recorded options, those of FREE_IN_A_SWEEP as typed now.

    ReconvergeError where any other option differs.
    """
    begun = recorded_options(folder)
    known = set(option_names(begun))
    for name in option_names(options):
        asked = _value(options, name)
        was = _value(begun, name) if name in known else None
        if name not in FREE_IN_A_SWEEP and not is_dataclass(asked) and was != asked:
            raise ReconvergeError(
                f"{folder} holds a run with {name}={was}, not {asked}; choose another sweep="
            )
    demonstrations = replace(begun.demonstrations, path=options.demonstrations.path)
    free = {spec.name for spec in fields(options)} & set(FREE_IN_A_SWEEP)
    typed = {name: getattr(options, name) for name in free}
    return replace(begun, demonstrations=demonstrations, **typed)


def _value(options: Any, name: str) -> Any:
    return reduce(getattr, name.split("."), options)
