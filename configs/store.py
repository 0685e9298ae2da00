"""Options as hydra reads them: the dataclasses of every command, registered with its ConfigStore.

yaml files beside this one are presets only: `configs/<group>/<name>.yaml` takes the options of a
row of the group's table and changes some of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import AliasEvent, YAMLError

from reconverge.errors import ReconvergeError, one_line

SILENT_LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"handlers": []}}


@dataclass(frozen=True)
class Command:
    """A front door on the command line: its usage line, its options, and the groups among them."""

    name: str
    usage: str
    options: type
    groups: Mapping[str, Mapping[str, type]] = field(default_factory=dict)  # tables of options
    chosen: Mapping[str, str] = field(default_factory=dict)  # the default choice of every group
    experiments: bool = False  # whether configs/experiment/ has presets for it
    hydra: Mapping[str, Any] = field(default_factory=dict)  # beside what every command has
    free_in_a_sweep: Sequence[str] = ()  # options that the folders of its runs are not named by


def register(command: Command) -> None:
    """Tell hydra the options of a command; again whenever a table may have got another row."""
    store = ConfigStore.instance()
    store.store(name=f"{command.name}_options", node=structured(command.options))
    for group, table in command.groups.items():
        store.repo.pop(group, None)  # a row that is gone from its table
        for name, options in table.items():
            if (told := getattr(options, "name", None)) != name:
                raise ReconvergeError(f"the row {name} of {group}: its options say name={told}")
            store.store(group=group, name=name, node=structured(options))
    defaults: list[Any] = [f"{command.name}_options", "_self_"]
    defaults += [{group: choice} for group, choice in command.chosen.items()]
    defaults += [{"experiment": None}] if command.experiments else []
    hydra = {
        "job": {
            "name": command.name,
            "chdir": False,
            "config": {"override_dirname": {"exclude_keys": [*command.free_in_a_sweep]}},
        },
        "output_subdir": None,
        "run": {"dir": "."},
        "job_logging": {**SILENT_LOGGING, "handlers": {"file": {"delay": True}}},
        "hydra_logging": SILENT_LOGGING,
    }
    node = {"defaults": defaults, "hydra": OmegaConf.merge(hydra, command.hydra)}
    store.store(name=command.name, node=node)


@cache
def structured(options: type) -> DictConfig:
    """Return a class of options as hydra's store keeps it, which copies what it gives away."""
    return writable(OmegaConf.structured(options))


def writable(node: DictConfig) -> DictConfig:
    """Let hydra override the fields of a frozen dataclass, which omegaconf makes read-only."""
    node._set_flag("readonly", None)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not OmegaConf.is_missing(node, key):
            writable(child)
    return node


def begin() -> None:
    """Let `${moment:}`, by which runs without a name are called, be now."""
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    OmegaConf.register_new_resolver("moment", lambda: now, replace=True)


begin()


def load_yaml(path: Path) -> DictConfig:
    """Read the options that a run wrote: plain values, which name nothing outside the file."""
    if not path.exists():
        raise ReconvergeError(f"{path}: no such file; give the directory of a run")
    try:
        text = path.read_text("utf-8")
        aliases = (isinstance(event, AliasEvent) for event in yaml.parse(text))
        if re.search(r"(?<!\\)\$\{", text) or any(aliases):
            raise ReconvergeError(
                f"{path}: holds an interpolation or an alias, which no run writes; restore it"
            )
        loaded = OmegaConf.create(text)
    except ReconvergeError:
        raise
    except (OSError, ValueError, YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise ReconvergeError(f"{path}: cannot be read ({one_line(error)}); restore it") from error
    if not isinstance(loaded, DictConfig):
        raise ReconvergeError(f"{path}: holds no options; restore it")
    return loaded


def chosen_in(config: DictConfig, group: str, file: Path) -> str:
    """Return the choice of a group in options that a run wrote to `file`."""
    chosen = config.get(group)
    name = chosen.get("name") if isinstance(chosen, DictConfig) else None
    if not isinstance(name, str):
        raise ReconvergeError(f"{file}: {group}: lacks its name; restore it")
    return name
