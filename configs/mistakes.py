"""Mistakes in options that hydra and omegaconf find, explained in one line each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException, ValidationError
from yaml import MarkedYAMLError

from reconverge.configs.presets import read_preset
from reconverge.configs.store import Command
from reconverge.errors import ReconvergeError, lacks_memory, unknown
from reconverge.options import option_names


def mendable(error: Exception) -> ReconvergeError | None:
    """Return the error that says in one line what the user can mend; None for a bug."""
    if isinstance(error, ReconvergeError):
        return error
    said = " ".join(str(error).split())
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return ReconvergeError(said)
    if lacks_memory(error):
        return ReconvergeError(
            f"the memory is not enough ({said[:120] or type(error).__name__}); make a number of "
            "these options smaller: width, depth, batch_size, pool, samples, slots, workers"
        )
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        remedy = "check that path, its rights and the free disk space"
        return ReconvergeError(f"{place}{error.strerror or said}; {remedy}")
    return None


def check_sweep(command: Command, overrides: list[str]) -> None:
    """Raise ReconvergeError for options by which the folders of several runs (-m) do not differ."""
    folders = " ".join(text for text in overrides if text.startswith("hydra.sweep."))
    for override in OverridesParser.create().parse_overrides(overrides):
        key, value = override.key_or_group, override.value()
        if key not in command.free_in_a_sweep or f"${{{key}}}" in folders:
            continue
        if key == "name":
            given = shlex.quote(f"sweep={value}")
            raise ReconvergeError(
                f"name={value}: names the folder of one run; for several (-m) give {given}"
            )
        if override.is_sweep_override():
            raise ReconvergeError(
                f"{override.input_line}: all would be one run, for no folder is named by {key}; "
                "give one value"
            )


def explained(command: Command, error: Exception, overrides: list[str]) -> ReconvergeError | None:
    """Return one line for an unknown option, an unknown choice or a value of another type, and for
    a preset that is no yaml.
    """
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return ReconvergeError(
            f"{mark.name}: line {mark.line + 1}: is no yaml ({error.problem}); mend that line"
        )
    if isinstance(error, MissingConfigException):
        return _unknown_choice(command, error)
    if isinstance(error, OverrideParseException):
        return _unreadable(command, error.override, overrides)
    found = re.search(r"Could not override '([^']+)'", str(error))
    if found:
        return _unknown_option(command, found[1], overrides)
    found = re.search(r"In 'experiment/([^']+)'.*full_key: ([\w.]+)", str(error), re.DOTALL)
    if found:
        group = found[2].partition(".")[0]
        return ReconvergeError(
            f"experiment={found[1]} sets {found[2]}, which {group}="
            f"{_choice(command, group, overrides)} does not have; in its place, and before yours, "
            f"give {_in_full(command, found[1], overrides)}"
        )
    cause = error if isinstance(error, ValidationError) else error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return _wrong_type(command, error, cause, overrides)
    return None


def _in_full(command: Command, experiment: str, overrides: list[str]) -> str:
    """Return, as they are typed, the options of an experiment that the chosen groups have."""
    known = set(option_names(command.options()))
    for group in command.groups:
        known -= {name for name in known if name.startswith(f"{group}.")}
        known |= set(option_names(_chosen_options(command, group, overrides), f"{group}."))
    options = read_preset("experiment", experiment, overrides)
    choices = {}
    for choice in options.pop("defaults", ()):
        (group, name), *_ = choice.items()
        choices[group.removeprefix("override /")] = name
    for typed in overrides:
        choices.pop(typed.partition("=")[0], None)
    given = [f"{group}={name}" for group, name in choices.items()]
    given += [f"{name}={value}" for name, value in _flat(options) if name in known]
    return " ".join(given)


def _flat(options: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name of every option and its value as it is typed."""
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            typed = ",".join(value) if isinstance(value, list) else str(value)
            yield f"{prefix}{name}", typed


def _unreadable(command: Command, override: str, overrides: list[str]) -> ReconvergeError:
    """Say what the option of an override that hydra's grammar does not know must be."""
    name = override.partition("=")[0].lstrip("+~")
    if name not in set(option_names(command.options())):
        return ReconvergeError(
            f"{override}: cannot be read; options are name=value, --help lists all"
        )
    wanted, example = _wanted(command, name, overrides)
    such_as = f", such as {name}={example}" if example is not None else ""
    return ReconvergeError(f"{override}: must be {wanted}{such_as}")


def _unknown_choice(command: Command, error: MissingConfigException) -> ReconvergeError | None:
    group, _, name = (error.missing_cfg_file or "").partition("/")
    if not name:
        return None
    presets = [line.strip() for line in (error.options or [])]
    return unknown(group, name, presets or command.groups.get(group, {}))


def _unknown_option(command: Command, name: str, overrides: list[str]) -> ReconvergeError:
    known, owners = set(option_names(command.options())), []
    for group, table in command.groups.items():
        for row, options in table.items():
            names = set(option_names(options(), f"{group}."))
            owners += [f"{group}={row}"] if name in names else []
            known |= names
    if owners:
        group, _, option = name.partition(".")
        others = f"{', '.join(owners)} {'has' if len(owners) == 1 else 'have'}"
        chosen = _choice(command, group, overrides)
        return ReconvergeError(f"{group}={chosen} has no option {option!r}; {others}")
    near = get_close_matches(name, sorted(known), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ReconvergeError(f"unknown option {name!r}: {hint}--help lists all")


def _wrong_type(
    command: Command, error: Exception, cause: OmegaConfBaseException, overrides: list[str]
) -> ReconvergeError | None:
    """Say what the option that could not be merged must be, with its default as an example."""
    text = str(error).partition("Error merging override ")[2].splitlines()[:1]
    given = text[0] if text else f"{cause.full_key}"
    name, _, value = given.lstrip("+").partition("=")
    if name.rpartition(".")[0] in _single(command.options()):  # below what is no group
        return _unknown_option(command, name, overrides)
    wanted, example = _wanted(command, name, overrides)
    such_as = f", such as {name}={example}" if example is not None else ""
    typed = value.strip("'\"")
    return ReconvergeError(f"{name}={typed}: must be {wanted}{such_as}")


def _single(options: Any) -> set[str]:
    """Return the names of the options that are a value each, and no group."""
    return {
        spec.name
        for spec in fields(options)
        if spec.metadata and not is_dataclass(getattr(options, spec.name, None))
    }


def _wanted(command: Command, name: str, overrides: list[str]) -> tuple[str, Any]:
    """Return in words what an option holds, and its default."""
    *groups, last = name.split(".")
    options = command.options()
    for group in groups:
        options = _chosen_options(command, group, overrides) or getattr(options, group)
    hint = get_type_hints(type(options)).get(last, Any)
    default = getattr(options, last, None)
    if is_dataclass(hint) or last in command.groups:
        names = [spec.name for spec in fields(hint)] if is_dataclass(hint) else command.groups[last]
        return f"a group of options ({', '.join(names)})", None
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    wanted = "a list" if isinstance(default, list) else words.get(kinds[0], "another type")
    optional = " or null" if type(None) in get_args(hint) else ""
    return f"{wanted}{optional}", default


def _chosen_options(command: Command, group: str, overrides: list[str]) -> Any:
    if group not in command.groups:
        return None
    table = command.groups[group]
    return table.get(_choice(command, group, overrides), next(iter(table.values())))()


def _choice(command: Command, group: str, overrides: list[str]) -> str:
    typed = [o.partition("=")[2] for o in overrides if o.startswith(f"{group}=")]
    return [command.chosen[group], *typed][-1]
