"""What every entry point shares on the command line: task lists, `--help`, one-line errors and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

ERROR = 2
INTERRUPTED = 130


def run(name: str, task: Callable[[DictConfig], object]) -> None:
    """Run `task` with the configuration `configs/<name>.yaml` and the command line's overrides.

    Bad input ends with one line on stderr and exit code 2, Ctrl-C with 130.
    """
    arguments = [_list_tasks(argument) for argument in sys.argv[1:]]
    if {"--help", "-h"} & set(arguments):
        print(help_text(name))
        return
    sys.argv[1:] = arguments + _resume_directory(arguments)

    @hydra.main(version_base="1.3", config_path="pkg://configs", config_name=name)
    def job(config: DictConfig) -> None:
        try:
            task(config)
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None
        except (ValueError, OSError, FloatingPointError, OmegaConfBaseException) as error:
            fail(error)

    try:
        _check(name, arguments)
        job()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        fail(error)


def fail(error: BaseException) -> None:
    """One line on stderr, exit code 2."""
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(ERROR)


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
    lines += ["", "several runs: -m seed=0,1,2 method=replay,trust_region"] if name == "train" else []
    return "\n".join(lines)


def _list_tasks(argument: str) -> str:
    """`env=lift,can` as the list that it means; hydra would take the comma for a sweep."""
    key, separator, value = argument.partition("=")
    if key == "env" and separator and not value.startswith(("[", "'", '"')):
        return f"env=[{value}]"
    return argument


def _resume_directory(arguments: list[str]) -> list[str]:
    """A resumed run goes on in its own directory."""
    found = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    return [f"hydra.run.dir={found[-1]}"] if found and found[-1] not in ("", "null") else []


def _check(name: str, arguments: list[str]) -> None:
    """Compose the configuration once in order to report a misspelt option in one line; sweeps are left to hydra."""
    if {"-m", "--multirun"} & set(arguments):
        return
    overrides = [a for a in arguments if "=" in a and not a.startswith(("hydra.", "+hydra.", "-"))]
    with hydra.initialize_config_module("configs", version_base="1.3"):
        hydra.compose(name, overrides)


def load_yaml(path: Path) -> DictConfig:
    """A configuration that a run wrote."""
    if not path.exists():
        raise ValueError(f"{path}: no such file; give the directory of a run")
    loaded = OmegaConf.load(path)
    assert isinstance(loaded, DictConfig)
    return loaded
