"""Presets: the yaml files of this package, and those below folders of the user's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from reconverge.configs.grammar import quoted
from reconverge.errors import ReconvergeError
from reconverge.paths import expanded

FLAGS = {"--config-dir", "-cd"}
SEARCHED = "hydra.searchpath="


def searched(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `--config-dir` as `hydra.searchpath`, which all composing heeds.

    ReconvergeError where there is no such folder.
    """
    kept, places = [], []
    rest = iter(arguments)
    for argument in rest:
        flag, separator, value = argument.partition("=")
        if flag in FLAGS:
            places.append(f"file://{_folder(flag, value if separator else next(rest, ''))}")
        else:
            kept.append(argument)
    if not places:
        return kept
    kept = [argument for argument in kept if not argument.startswith(SEARCHED)]
    places += _places(*arguments)
    options = [i for i, argument in enumerate(kept) if re.match(r"[^-].*=", argument)]
    first = options[0] if options else len(kept)  # hydra's parser wants all options in a row
    kept.insert(first, f"{SEARCHED}[{','.join(map(quoted, places))}]")
    return kept


def preset_names(group: str, arguments: Sequence[str]) -> list[str]:
    """Return the names of a group's presets that the arguments let hydra find."""
    return sorted(_files(group, arguments))


def preset_lines(group: str, arguments: Sequence[str]) -> list[str]:
    """List the presets of a group with what is in them."""
    lines = []
    for name, file in sorted(_files(group, arguments).items()):
        text = file.read_bytes().decode("utf-8", errors="replace")
        lines += [f"  {name}", *(f"    {line}" for line in text.splitlines())]
    return lines


def read_preset(group: str, name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Return what a preset holds, as plain values; nothing where it is none."""
    file = _files(group, arguments).get(name)
    try:
        holds = OmegaConf.to_container(OmegaConf.create(file.read_text("utf-8"))) if file else {}
    except (ValueError, YAMLError, OmegaConfBaseException):
        return {}
    return {str(key): value for key, value in holds.items()} if isinstance(holds, dict) else {}


def _files(group: str, arguments: Sequence[str]) -> dict[str, Traversable]:
    """Return the files of a group's presets by their names; of one name hydra takes the first."""
    found: dict[str, Traversable] = {}
    for place in ["pkg://reconverge.configs", *_places(*arguments)]:
        scheme, _, where = place.rpartition("://")
        try:
            root = files(where.replace("/", ".")) if scheme == "pkg" else Path(where)
        except ImportError:  # hydra says so
            continue
        folder = root.joinpath(group)
        for file in folder.iterdir() if folder.is_dir() else ():
            if file.name.endswith(".yaml"):
                found.setdefault(file.name.removesuffix(".yaml"), file)
    return found


def _places(*arguments: str) -> list[str]:
    """Return where hydra searches beside this package, as the first such argument says."""
    for argument in arguments:
        if argument.startswith(SEARCHED):
            value = OverridesParser.create().parse_override(argument).value()
            return [str(place) for place in value] if isinstance(value, list) else []
    return []


def _folder(flag: str, typed: str) -> Path:
    folder = Path(expanded(typed)).absolute()
    if not typed or not folder.is_dir():
        raise ReconvergeError(
            f"{flag}={typed}: no such folder; give one that holds experiment/<name>.yaml or "
            "method/<name>.yaml"
        )
    for file in folder.glob("*/*.yaml"):
        if file.stem in preset_names(file.parent.name, []):
            raise ReconvergeError(f"{file}: the package has a preset of that name; rename yours")
    return folder
