"""What every front door shares on the command line: task lists, `--help`, errors, exit codes."""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import __main__
from reconverge.configs.grammar import in_grammar, unquoted
from reconverge.configs.mistakes import check_rows, check_sweep, explained, mendable
from reconverge.configs.presets import preset_lines, preset_names, searched
from reconverge.configs.store import Command, begin, chosen_in, load_yaml, register
from reconverge.errors import ReconvergeError, unknown
from reconverge.files import remove_empty
from reconverge.options import check_options, help_lines, with_paths_expanded
from reconverge.paths import expanded
from reconverge.plugins import load_plugins
from reconverge.process import INTERRUPTED, comes_of_interrupt, interruptible, printing, report

ERROR = 2
MULTIRUN = {"-m", "--multirun"}
HELP = {"-h", "--help"}
VALUED = {"--cfg", "-c", "--package", "-p", "--info", "-i", "--experimental-rerun"}
VALUED |= {"--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"}
FLAGS = MULTIRUN | HELP | VALUED | {"--run", "-r", "--resolve", "--version", "--hydra-help"}
FLAGS |= {"--shell-completion", "-sc"}
"""Hydra's flags, and those of them that a value follows."""


class FailedRun(Exception):
    """A run of a sweep failed in another process, which has said why."""


def run(command: Command, task: Callable[[Any], object], *overrides: str) -> None:
    """Run `task` with the command's options as these overrides and the command line say them.

    It ends as `front_door` says.
    """
    typed = [_program(), *sys.argv[1:]]
    with front_door():
        arguments = [*overrides, *(in_grammar(command, argument) for argument in sys.argv[1:])]
        # hydra's parser wants it before the options
        arguments.sort(key=lambda a: a not in MULTIRUN)
        arguments = searched(arguments)
        if HELP & set(arguments):
            print(help_text(command, arguments))
            return
        begin()
        register(command)
        arguments += _of_resumed_run(command, arguments)
        _compose_all(command, arguments)
        _check_flags(arguments)
        sys.argv[1:] = arguments
        _run_all(command, task, typed)


def _run_all(command: Command, task: Callable[[Any], object], typed: list[str]) -> None:
    """Let hydra run the task, or all of a sweep, with the options in `sys.argv`.

    While it runs, `sys.argv` is what was `typed`, in other processes too.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here instead of being printed by hydra
    failed: list[str] = []
    here = os.getpid()

    @hydra.main(
        version_base="1.3", config_path="pkg://reconverge.configs", config_name=command.name
    )
    def job(config: DictConfig) -> None:
        sys.argv[:] = typed
        try:
            load_plugins()  # in a process of a sweep's launcher
            options = with_paths_expanded(OmegaConf.to_object(config))
            check_options(options)
            task(options)
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None
        except Exception as error:
            mended = None if comes_of_interrupt(error) else mendable(error)
            if mended is None:
                raise
            report(mended)
            remove_empty(Path(HydraConfig.get().runtime.output_dir))
            if os.getpid() != here:
                raise FailedRun(str(mended)) from None
            failed.append(str(mended))  # the other runs of a sweep go on

    try:
        job()
    except FailedRun as error:
        again = "the same command again goes on with the rest"
        raise ReconvergeError(f"a run of the sweep failed ({error}); {again}") from None
    if failed:
        raise SystemExit(ERROR)


def _program() -> str:
    """Return the command that started this process, as it was typed but for its options."""
    module = getattr(__main__.__spec__, "name", "")
    if sys.argv[0].startswith("reconverge ") or not module.removeprefix("reconverge.").startswith(
        ("policy.", "tools.")
    ):
        return sys.argv[0]
    return f"python -m {module}"


def compose(command: Command, overrides: list[str]) -> Any:
    """Return the options of a command as `overrides` say them; ReconvergeError for bad ones."""
    load_plugins()
    begin()
    register(command)
    arguments = [in_grammar(command, text) for text in overrides]
    arguments += _of_resumed_run(command, arguments)
    of_the_caller = GlobalHydra.instance().hydra  # a program may use hydra itself
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_module("reconverge.configs", version_base="1.3"):
            return with_paths_expanded(OmegaConf.to_object(_composed(command, arguments)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ReconvergeError(" ".join(str(error).split())) from error
    finally:
        GlobalHydra.instance().hydra = of_the_caller


@contextmanager
def front_door() -> Iterator[None]:
    """End the program with one line and exit code 2 on an error that the user can mend, with 130 on
    Ctrl-C or SIGTERM.

    Everything else is a bug and keeps its traceback.
    """
    try:
        with printing(), interruptible():
            load_plugins()
            yield
    except BrokenPipeError:  # nobody reads on, as after `| head -1`
        raise SystemExit(ERROR) from None
    except Exception as error:
        mended = mendable(error)
        if mended is None:
            raise
        report(mended)
        raise SystemExit(ERROR) from None


class Parser(ArgumentParser):
    """A parser of the command's arguments that says what is wrong in one line."""

    def __init__(self, module: str, **options: Any):
        named = sys.argv[0] if sys.argv[0].startswith("reconverge ") else f"python -m {module}"
        super().__init__(prog=named, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise ReconvergeError(f"{message}; --help lists what there is")


def path(typed: str) -> Path:
    """Return a path that was typed as an argument; ReconvergeError for an empty one."""
    if not typed:
        raise ReconvergeError("a path is empty; give one, or leave it out")
    return Path(expanded(typed))


def help_text(command: Command, arguments: Sequence[str] = ()) -> str:
    """Return the options of a command with their meanings, and the choices of its groups, also of
    the presets that the arguments let hydra find.
    """
    head = [
        "",
        "options, as name=value (nested ones as group.name=value), with their defaults:",
        "",
    ]
    usage = command.usage
    if sys.argv[0].startswith("reconverge "):  # the console script's sub-command
        usage = re.sub(r"^python -m \S+", sys.argv[0], usage)
    lines = [f"usage: {usage}", *head, *help_lines(command.options())]
    for group, table in command.groups.items():
        lines += ["", f"{group}= one of these, all shown, with its options as {group}.name=value:"]
        for name, options in table.items():
            first = (options.__doc__ or "").strip().splitlines()[0]
            default = " (default)" if name == command.chosen[group] else ""
            lines += [f"  {name}{default}  # {first}", *help_lines(options(), "    ")]
        lines += preset_lines(group, arguments)
    if command.experiments:
        lines += [
            "",
            "experiment= one of these, or none (default):",
            *preset_lines("experiment", arguments),
        ]
        launchers = preset_names("hydra/launcher", arguments)
        lines += ["", "several runs: -m seed=0,1,2 method=replay,trust_region sweep=<name>"]
        lines += [f"one after another, or with hydra/launcher= one of: {', '.join(launchers)}"]
    return "\n".join(lines)


def in_run_directory(
    execute: Callable[[Any, Path, list[str], bool], object],
) -> Callable[[Any], object]:
    """Return the task of a command that makes runs: `execute(options, folder, typed, in_sweep)` in
    hydra's run directory, with the names of the options that were typed.
    """

    def run(options: Any) -> object:
        running = HydraConfig.get()
        folder, in_sweep = Path(running.runtime.output_dir), running.mode == RunMode.MULTIRUN
        return execute(options, folder, names_of(running.overrides.task), in_sweep)

    return run


def names_of(overrides: Sequence[str]) -> list[str]:
    """Return the dotted names of the options that overrides set."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [override.key_or_group for override in parsed]


def _of_resumed_run(command: Command, arguments: list[str]) -> list[str]:
    """Let a resumed run go on in its own directory, with the choices of groups that it recorded."""
    found = [a.partition("=")[2] for a in arguments if a.startswith("resume=")]
    if not found or found[-1] in ("", "null"):
        return []
    folder = unquoted(found[-1])
    for typed in arguments:
        if typed in MULTIRUN or typed.partition("=")[0] in (*command.groups, "experiment"):
            raise ReconvergeError(
                f"resume={folder}: leave out {typed}, which was chosen when the run began, or "
                "begin a new run"
            )
    file = Path(folder) / "config.yaml"
    if not file.exists():
        near = Path("runs") / folder
        hint = "give a directory that holds config.yaml"
        hint = f"did you mean {near}?" if (near / file.name).exists() else hint
        raise ReconvergeError(f"resume={folder}: no run is there; {hint}")
    recorded = load_yaml(file)
    choices = [f"{group}={chosen_in(recorded, group, file)}" for group in command.groups]
    return [f"hydra.run.dir={found[-1]}", *choices]


def _compose_all(command: Command, arguments: list[str]) -> None:
    """Compose the options to report a bad one in one line; of a sweep, each value by itself."""
    overrides, several = _overrides(command, arguments), MULTIRUN & set(arguments)
    with hydra.initialize_config_module("reconverge.configs", version_base="1.3"):
        for chosen in _each(overrides) if several else [overrides]:
            _composed(command, chosen)
    if several:
        check_sweep(command, overrides)


def _overrides(command: Command, arguments: list[str]) -> list[str]:
    """Return the arguments but for hydra's flags; ReconvergeError for what is neither."""
    overrides = []
    for before, argument in pairwise(["", *arguments]):
        flag = argument.partition("=")[0]
        if argument.startswith("-"):
            if flag not in FLAGS:
                name = flag.lstrip("-").replace("-", "_")
                near = get_close_matches(flag, sorted(FLAGS), n=1)
                hint = f"did you mean {near[0]!r}?" if near else "--help lists all"
                known = {each.name for each in fields(command.options)}  # type: ignore[arg-type]
                known |= {*command.groups, *(["experiment"] if command.experiments else [])}
                if name.partition(".")[0] in known:
                    hint = f"options are name=value, without dashes: {name}="
                raise ReconvergeError(f"unknown option {flag!r}: {hint}")
        elif "=" in argument or argument.startswith("~"):
            overrides.append(argument)
        elif before not in VALUED:
            example = next(word for word in command.usage.split() if "=" in word)
            raise ReconvergeError(f"{argument!r}: options are name=value, for example {example}")
    return overrides


def _check_flags(arguments: list[str]) -> None:
    """Raise ReconvergeError where hydra's own parser would end with its usage."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ReconvergeError(f"{message}; --help lists what there is")

    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(arguments)


def _check_groups(command: Command, overrides: list[str]) -> None:
    """Raise ReconvergeError for a number or null in place of the name of a group's choice."""
    for override in OverridesParser.create().parse_overrides(overrides):
        group, value = override.get_key_element().lstrip("+~"), override.value()
        if group in command.groups and isinstance(value, int | float):
            raise unknown(group, value, command.groups[group])
        if group in ("experiment", "hydra/launcher") and value is None and not override.is_delete():
            raise ReconvergeError(f"{group}=null: leave it out, which means none")


def _composed(command: Command, overrides: list[str]) -> DictConfig:
    try:
        _check_groups(command, overrides)
        config = hydra.compose(command.name, overrides)
        check_rows(command, config, overrides)
        check_options(OmegaConf.to_object(config))
    except ReconvergeError:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise explained(command, error, overrides) or error from error
    except OverflowError as error:
        name = re.search(r"full_key: (\S+)", str(error))
        said = f"{name[1]}: its number" if name else "a number"
        raise ReconvergeError(f"{said} is larger than 1.8e308; give a smaller one") from error
    return config


def _each(overrides: list[str]) -> Iterator[list[str]]:
    """Yield the options of a sweep's runs.

    First those that are not swept, which hydra composes first; then every value of one beside the
    others' first.
    """
    values = []
    parsed = OverridesParser.create().parse_overrides(overrides)
    for text, override in zip(overrides, parsed, strict=True):
        choices = override.sweep_string_iterator() if override.is_discrete_sweep() else []
        values.append([f"{override.get_key_element()}={choice}" for choice in choices] or [text])
    first = [choices[0] for choices in values]
    yield [choices[0] for choices in values if len(choices) == 1]
    yield first
    for i, choices in enumerate(values):
        yield from ([*first[:i], choice, *first[i + 1 :]] for choice in choices[1:])
