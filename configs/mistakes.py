"""Mistakes in options that hydra and omegaconf find, explained in one line each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError
from yaml import MarkedYAMLError, YAMLError

from reconverge.configs.presets import preset_names, read_preset
from reconverge.configs.store import Command
from reconverge.errors import ReconvergeError, lacks_memory, one_line, unknown
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


def check_rows(command: Command, config: DictConfig, overrides: list[str]) -> None:
    """Raise ReconvergeError for a group whose preset takes the options of no row of its table."""
    for group, table in command.groups.items():
        if not is_dataclass(OmegaConf.get_type(config, group)):
            whole = hydra.compose(command.name, overrides, return_hydra_config=True)
            choice = whole.hydra.runtime.choices[group]
            holds = read_preset(group, choice, overrides)
            row = holds.get("name") if holds.get("name") in list(table) else command.chosen[group]
            raise ReconvergeError(
                f"{group}={choice}: has the options of no {group}; "
                f"begin its file with defaults: [{row}], or another of {', '.join(table)}"
            )


def explained(command: Command, error: Exception, overrides: list[str]) -> ReconvergeError | None:
    """Return one line for an unknown option, an unknown choice or a value of another type, typed or
    in a preset, and for a preset that is no yaml.
    """
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return ReconvergeError(
            f"{mark.name}: line {mark.line + 1}: is no yaml ({error.problem}); mend that line"
        )
    if isinstance(error, (YAMLError, UnicodeError)):
        return ReconvergeError(f"a preset is no text ({one_line(error)}); save it as UTF-8")
    if ill_chosen := _ill_chosen(command, error, overrides):
        return ill_chosen
    if index := re.fullmatch(r"invalid literal for int\(\) with base 10: '(.+)'", str(error)):
        inside = (name for name in _typed(overrides) if name.rpartition(".")[2] == index[1])
        return _unknown_option(command, next(inside, index[1]), overrides)  # inside a list
    found = re.search(r"[Ii]n '(\w+)/([^']+)'", str(error))
    if not found or found[1] not in (*command.groups, "experiment"):
        return _said(command, error, overrides)
    group, name = found.groups()
    cause = error.__context__
    if group == "experiment" and isinstance(cause, ConfigKeyError) and cause.full_key:
        if cause.full_key == group:
            return ReconvergeError(f"{group}={name}: begin its file with '# @package _global_'")
        if _is_of_another_choice(command, cause.full_key, overrides):
            return _does_not_fit(command, name, cause.full_key, overrides)
    if isinstance(cause, OmegaConfBaseException):
        holds = read_preset(group, name, overrides)
        options = holds if group == "experiment" else {group: holds}
        said = _said_of_preset(command, cause, options, overrides)
    else:
        said = _said(command, error, overrides)
    return ReconvergeError(f"{group}={name}: {said}") if said else None


def _ill_chosen(command: Command, error: Exception, overrides: list[str]) -> ReconvergeError | None:
    """Say how a preset chooses groups, where the error may come of its doing so otherwise."""
    if experiment := _typed(overrides).get("experiment"):
        holds = read_preset("experiment", experiment, overrides)
        if chosen := _chosen_wrongly(command, holds):
            wanted = ", ".join(f"{{override /{group}: {row}}}" for group, row in chosen.items())
            return ReconvergeError(
                f"experiment={experiment}: write its choice of {' and '.join(chosen)} as "
                f"defaults: [{wanted}]"
            )
    if type(error) is ValueError and "defaults" in str(error):  # hydra's
        place = f"experiment={experiment}: " if experiment else ""
        remedy = "write, say, defaults: [{override /method: ewc}]"
        return ReconvergeError(f"{place}{error}; {remedy}")
    return None


def _chosen_wrongly(command: Command, experiment: dict[str, Any]) -> dict[str, Any]:
    """Return the choices of groups that an experiment's file makes otherwise than by a list of
    `override /group: choice`.
    """
    defaults = experiment.get("defaults")
    entries = [defaults] if isinstance(defaults, dict) else _defaults(experiment)
    found = {key: row for key, row in experiment.items() if isinstance(row, str)}
    for entry in entries:
        for key, row in entry.items() if isinstance(entry, dict) else ():
            if isinstance(defaults, dict) or not re.match(r"override\s+/", key):
                found[key.removeprefix("override").strip().lstrip("/")] = row
    return {group: row for group, row in found.items() if group in command.groups}


def _said(command: Command, error: Exception, overrides: list[str]) -> ReconvergeError | None:
    """Return one line for a mistake in what is typed."""
    if isinstance(error, MissingConfigException):
        return _unknown_choice(command, error, overrides)
    if isinstance(error, OverrideParseException):
        return _unreadable(command, error.override)
    found = re.search(r"Could not override '([^']+)'", str(error))
    if found:
        return _unknown_option(command, found[1], overrides)
    cause = error if isinstance(error, ValidationError) else error.__cause__
    if not isinstance(cause, OmegaConfBaseException) or not cause.full_key:
        return None
    text = str(error).partition("Error merging override ")[2].splitlines()[:1]
    name, _, value = (text[0] if text else cause.full_key).lstrip("+").partition("=")
    if name != cause.full_key:  # below what is no group
        return _unknown_option(command, name, overrides)
    return _wrong_type(command, name, value.strip("'\""), cause.object_type)


def _said_of_preset(
    command: Command, cause: OmegaConfBaseException, options: dict[str, Any], overrides: list[str]
) -> ReconvergeError | None:
    """Return one line for a mistake in the options that a preset sets."""
    name = cause.full_key or ""
    if name and isinstance(cause, ConfigKeyError):
        return _unknown_option(command, name, overrides, cause.object_type)
    if name:
        value = OmegaConf.select(OmegaConf.create(options), name)
        return _wrong_type(command, name, value, cause.object_type, in_yaml=True)
    for name, value in options.items():
        if is_dataclass(getattr(command.options(), name, None)) and not isinstance(value, dict):
            return _wrong_type(command, name, value, command.options)
    return None if options else ReconvergeError("must hold options, as name: value")


def _is_of_another_choice(command: Command, name: str, overrides: list[str]) -> bool:
    """Return whether the typed choice of a group lacks an option that others of the group have."""
    group = name.partition(".")[0]
    return group in _typed(overrides) and bool(_owners(command, name))


def _does_not_fit(
    command: Command, experiment: str, name: str, overrides: list[str]
) -> ReconvergeError:
    group = name.partition(".")[0]
    return ReconvergeError(
        f"experiment={experiment} sets {name}, which {group}={_typed(overrides)[group]} does not "
        f"have; in its place, and before yours, give {_in_full(command, experiment, overrides)}"
    )


def _in_full(command: Command, experiment: str, overrides: list[str]) -> str:
    """Return, as they are typed, the options of an experiment that the chosen groups have."""
    known = set(option_names(command.options()))
    for group in command.groups:
        known -= {name for name in known if name.startswith(f"{group}.")}
        known |= set(option_names(_chosen_options(command, group, overrides), f"{group}."))
    options = read_preset("experiment", experiment, overrides)
    choices = _by_defaults(options)
    options.pop("defaults", None)
    for typed in _typed(overrides):
        choices.pop(typed, None)
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


def _unreadable(command: Command, override: str) -> ReconvergeError:
    """Say what the option of an override that hydra's grammar does not know must be."""
    name = override.partition("=")[0].lstrip("+~")
    if name not in set(option_names(command.options())):
        return ReconvergeError(
            f"{override}: cannot be read; options are name=value, --help lists all"
        )
    *groups, last = name.split(".")
    options = command.options()
    for group in groups:
        options = getattr(options, group)
    wanted, example = _wanted(command, options, last)
    such_as = f", such as {name}={example}" if example is not None else ""
    return ReconvergeError(f"{override}: must be {wanted}{such_as}")


def _unknown_choice(
    command: Command, error: MissingConfigException, overrides: list[str]
) -> ReconvergeError | None:
    group, _, name = (error.missing_cfg_file or "").partition("/")
    if not name:
        return None
    found = [*command.groups.get(group, {}), *preset_names(group, overrides)]
    said = unknown(group, name, error.options or found)
    experiment = _typed(overrides).get("experiment", "")
    if _by_defaults(read_preset("experiment", experiment, overrides)).get(group) == name:
        return ReconvergeError(f"experiment={experiment}: {said}")
    return said


def _owners(command: Command, name: str) -> list[str]:
    """Return, as they are typed, the choices of a group that have an option."""
    return [
        f"{group}={row}"
        for group, table in command.groups.items()
        for row, options in table.items()
        if name in option_names(options(), f"{group}.")
    ]


def _unknown_option(
    command: Command, name: str, overrides: list[str], options: type | None = None
) -> ReconvergeError:
    """Say which choices have an option that its own, `options` where they are known, has not."""
    if owners := _owners(command, name):
        group, _, option = name.partition(".")
        others = f"{', '.join(owners)} {'has' if len(owners) == 1 else 'have'}"
        chosen = getattr(options, "name", None) or _choice(command, group, overrides)
        return ReconvergeError(f"{group}={chosen} has no option {option!r}; {others}")
    known = set(option_names(command.options()))
    for group, table in command.groups.items():
        for row in table.values():
            known |= set(option_names(row(), f"{group}."))
    near = get_close_matches(name, sorted(known), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ReconvergeError(f"unknown option {name!r}: {hint}--help lists all")


def _wrong_type(
    command: Command, name: str, value: Any, options: Any, in_yaml: bool = False
) -> ReconvergeError:
    """Say what the option that could not be merged must be, with its default as an example."""
    last = name.rpartition(".")[2]
    wanted, example = _wanted(command, (options or command.options)(), last)
    such_as = f", such as {name}={example}" if example is not None else ""
    if in_yaml and isinstance(example, list) and isinstance(value, str):
        such_as = f"; give {last}: [{', '.join(value.split(','))}]"
    given = "null" if value is None else value
    return ReconvergeError(f"{name}={given}: must be {wanted}{such_as}")


def _wanted(command: Command, options: Any, last: str) -> tuple[str, Any]:
    """Return in words what an option holds, and its default."""
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
    table, name = command.groups[group], _choice(command, group, overrides)
    based_on = _defaults(read_preset(group, name, overrides))
    return table[next(row for row in (name, *based_on, *table) if row in list(table))]()


def _choice(command: Command, group: str, overrides: list[str]) -> str:
    """Return the choice of a group: what is typed, else what the experiment says."""
    typed = _typed(overrides)
    chosen = _by_defaults(read_preset("experiment", typed.get("experiment", ""), overrides))
    return {**command.chosen, **chosen, **typed}[group]


def _by_defaults(experiment: Any) -> dict[str, str]:
    """Return the choices of groups that the defaults of an experiment make."""
    entries = [entry for entry in _defaults(experiment) if isinstance(entry, dict)]
    return {
        key.removeprefix("override /"): name for entry in entries for key, name in entry.items()
    }


def _defaults(preset: Any) -> list[Any]:
    defaults = preset.get("defaults")
    return defaults if isinstance(defaults, list) else []


def _typed(overrides: list[str]) -> dict[str, str]:
    """Return what is typed by its names."""
    return dict(text.split("=", 1) for text in overrides if "=" in text)
