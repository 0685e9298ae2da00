"""What every entry point shares on the command line: task lists, `--help`, one-line errors and exit codes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

ERROR = 2
INTERRUPTED = 130
MULTIRUN = {"-m", "--multirun"}
PATHS = (
    "resume", "checkpoint", "compare", "source", "target", "filter", "output", "path", "demonstrations.path",
)  # fmt: skip
"""Options whose text may hold what hydra would read as more than text; `filter` is a name of robomimic's."""
NULLABLE = {"workers": 2, "evaluation.probe_tasks": 1, "method.radius": 0.1, "diffusion.clip": 1.0}
"""Options that may be null, each with an example of another value."""


class Failed(Exception):
    """A run of a sweep failed in another process, which has said why."""


def run(name: str, task: Callable[[DictConfig], object], *overrides: str) -> None:
    """Run `task` with the configuration `configs/<name>.yaml`, these overrides and the command line's.

    Bad input ends with one line on stderr and exit code 2, Ctrl-C with 130.
    """
    arguments = [*overrides, *(_plain(argument) for argument in sys.argv[1:])]
    arguments.sort(key=lambda argument: argument not in MULTIRUN)  # hydra's parser wants it before the options
    if {"--help", "-h"} & set(arguments):
        print(help_text(name))
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here instead of being printed by hydra
    failed: list[Exception] = []
    here = os.getpid()

    @hydra.main(version_base="1.3", config_path="pkg://configs", config_name=name)
    def job(config: DictConfig) -> None:
        try:
            _check_types(config, hydra.compose(name, _groups()), "")
            task(config)
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None
        except (ValueError, OSError, FloatingPointError, OmegaConfBaseException) as error:
            report(error)
            if os.getpid() != here:
                raise Failed(str(error)) from None
            failed.append(error)  # the other runs of a sweep go on

    try:
        _check(name, arguments)
        sys.argv[1:] = arguments + _resume_directory(arguments)
        job()
    except Failed as error:
        report(ValueError(f"a run of the sweep failed ({error}); the same command again goes on with the rest"))
        failed.append(error)
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        report(error)
        failed.append(error)
    if failed:
        raise SystemExit(ERROR)


def report(error: BaseException) -> None:
    """One line on stderr."""
    print(f"error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)


def help_text(name: str) -> str:
    """The options of an entry point: its yaml, whose comments say what they mean, and the choices of its groups."""
    root = files("configs")
    text = (root / f"{name}.yaml").read_text()
    command, _, rest = text.partition("\n")
    options = rest.split("hydra:\n")[0]
    lines = [f"usage: {command.lstrip('# ')}", "", "options, as name=value (nested ones as group.name=value):", ""]
    body = options.split("\n\n", 1) if options.startswith("defaults:") else ["", options]
    lines.append(body[1].rstrip())
    groups = [line.split(":")[0].strip(" -") for line in body[0].splitlines() if ": " in line]
    for group in groups:
        lines += ["", f"{group}= one of:"]
        for choice in sorted((root / group).iterdir(), key=lambda path: path.name):
            if choice.name.endswith(".yaml"):
                lines += [f"  {choice.name[:-5]}", *(f"    {line}" for line in choice.read_text().splitlines())]
    if name == "train":
        launchers = ", ".join(sorted(path.name[:-5] for path in (root / "hydra" / "launcher").iterdir()))
        lines += ["", "several runs: -m seed=0,1,2 method=replay,trust_region sweep=<name>"]
        lines += [f"one after another, or with hydra/launcher= one of: {launchers}"]
    return "\n".join(lines)


def _plain(argument: str) -> str:
    """`env=lift,can` as the list, and a path as the text, that it means; hydra would take a comma for a sweep."""
    key, separator, value = argument.partition("=")
    if not separator or value.startswith(("[", "'", '"')):
        return argument
    if key == "env":
        return f"env=[{value}]"
    if key in PATHS and value not in ("", "null"):
        return f"{key}={_quoted(value)}"
    if key == "store":
        return f"store=[{','.join(_quoted(path) for path in value.split(',') if path)}]"
    return argument


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _resume_directory(arguments: list[str]) -> list[str]:
    """A resumed run goes on in its own directory, with its own configuration."""
    found = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    if not found or found[-1] in ("", "null"):
        return []
    others = [argument for argument in arguments if not argument.startswith(("resume=", "hydra."))]
    if others:
        raise ValueError(f"resume= reads everything from its run; leave out {' '.join(others)}")
    folder = found[-1].strip("'")
    if not (Path(folder) / "config.yaml").exists():
        raise ValueError(f"resume={folder}: no run is there; give a directory that holds config.yaml")
    return [f"hydra.run.dir={found[-1]}"]


def _groups() -> list[str]:
    """The groups' choices of the running job, and where it looked for them, as overrides."""
    running = HydraConfig.get()
    choices = running.runtime.choices.items()
    chosen = [f"{group}={choice}" for group, choice in choices if choice and not group.startswith("hydra/")]
    return [f"hydra.searchpath={list(running.searchpath)}", *chosen]


def _check_types(config: DictConfig, defaults: DictConfig, prefix: str) -> None:
    """ValueError for a value of another kind than the default or NULLABLE's; any other null takes anything."""
    for key in map(str, defaults):
        if OmegaConf.is_missing(defaults, key):
            continue
        value, option = config[key], f"{prefix}{key}"
        default = NULLABLE.get(option, defaults[key])
        if option in NULLABLE and value is None:
            continue
        if isinstance(default, DictConfig) and isinstance(value, DictConfig):
            _check_types(value, default, f"{option}.")
            continue
        wanted, types = _kind(default)
        if type(value) not in types:
            raise ValueError(f"{option}={value}: must be {wanted}, such as {option}={default}")


def _kind(default: object) -> tuple[str, tuple[type, ...]]:
    kinds: dict[type, tuple[str, tuple[type, ...]]] = {
        bool: ("true or false", (bool,)),
        int: ("a whole number", (int,)),
        float: ("a number", (float, int)),
        str: ("text", (str,)),
        ListConfig: ("a list", (ListConfig,)),
        DictConfig: ("a group of options", (DictConfig,)),
    }
    return kinds.get(type(default), ("anything", (bool, int, float, str, ListConfig, DictConfig, type(None))))


def _check(name: str, arguments: list[str]) -> None:
    """Compose the configuration in order to report a misspelt option in one line; of a sweep, each value by itself."""
    flagged = {value for flag, value in pairwise(["", *arguments]) if flag.startswith("-") and "=" not in value}
    overrides = [a for a in arguments if not a.startswith("-") and a not in flagged]
    with hydra.initialize_config_module("configs", version_base="1.3"):
        try:
            for chosen in _each(overrides) if MULTIRUN & set(arguments) else [overrides]:
                hydra.compose(name, chosen)
        except HydraException as error:
            raise _misspelt(name, error) or error from error


def _each(overrides: list[str]) -> Iterator[list[str]]:
    """The options that are not swept, which hydra composes first; then every value of one beside the others' first."""
    values = []
    for text, override in zip(overrides, OverridesParser.create().parse_overrides(overrides), strict=True):
        swept = override.is_discrete_sweep()
        choices = override.sweep_string_iterator() if swept else []
        values.append([f"{override.get_key_element()}={choice}" for choice in choices] or [text])
    first = [choices[0] for choices in values]
    yield [choices[0] for choices in values if len(choices) == 1]
    yield first
    for i, choices in enumerate(values):
        yield from ([*first[:i], choice, *first[i + 1 :]] for choice in choices[1:])


def _misspelt(name: str, error: HydraException) -> ValueError | None:
    """What to say of an option that there is not."""
    found = re.search(r"Could not override '([^']+)'", str(error))
    if not found:
        return None
    known = list(option_names(hydra.compose(name)))
    if found[1] in known:
        group = found[1].partition(".")[0]
        return ValueError(
            f"unknown option {found[1]!r}: the {group}= that you chose does not have it; --help lists all"
        )
    near = get_close_matches(found[1], known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ValueError(f"unknown option {found[1]!r}: {hint}--help lists all")


def option_names(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted names of all options and groups."""
    for key in map(str, config):
        value = None if OmegaConf.is_missing(config, key) else config[key]
        yield f"{prefix}{key}"
        if isinstance(value, DictConfig):
            yield from option_names(value, f"{prefix}{key}.")


def load_yaml(path: Path) -> DictConfig:
    """A configuration that a run wrote."""
    if not path.exists():
        raise ValueError(f"{path}: no such file; give the directory of a run")
    try:
        loaded = OmegaConf.load(path)
    except (OSError, YAMLError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); restore it") from error
    if not isinstance(loaded, DictConfig):
        raise ValueError(f"{path}: holds no options; restore it")
    return loaded
