"""LIBERO's problem files (BDDL): what a task's scene holds, what is to be done, in which words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

Expression = list[Any]  # of words and expressions


@dataclass(frozen=True)
class Joint:
    """A joint of a fixture: a drawer, a door, a knob. Limits in metres or radians."""

    name: str  # in MuJoCo's model
    low: float
    high: float


@dataclass(frozen=True)
class Problem:
    """What the suite knows of one task."""

    file: Path
    states: Path  # the official initial states
    scene: str  # the package's name of the kind of scene
    language: str  # the instruction
    objects: tuple[str, ...]  # of interest: bodies, or sites of fixtures
    joints: tuple[Joint, ...]  # of the fixtures that the goal is about


def read_problem(file: Path, states: Path, assets: Path) -> Problem:
    """Read a BDDL file; the joints of its fixtures are read from the `assets`."""
    parts = {part[0]: part[1:] for part in _read(file)[1:]}
    kinds = _kinds(parts[":fixtures"])
    owners = {f"{_target(region)}_{region[0]}": _target(region) for region in parts[":regions"]}
    interest = parts[":obj_of_interest"]
    conditions = parts[":goal"][0][1:]  # of (and ...)
    named = [*interest, *(name for condition in conditions for name in condition[1:])]
    fixtures = dict.fromkeys(owners.get(name, name) for name in named)
    return Problem(
        file=file,
        states=states,
        scene=parts["problem"][0],
        language=" ".join(parts[":language"]),
        objects=tuple(interest),
        joints=tuple(
            Joint(f"{fixture}_{name}", low, high)
            for fixture in fixtures
            if fixture in kinds
            for name, low, high in _joints(assets / f"{kinds[fixture]}.xml")
        ),
    )


def _read(file: Path) -> Expression:
    """Return the one expression of a file, in lower case as the package reads it."""
    stack: list[Expression] = [[]]
    for token in re.findall(r"[()]|[^\s()]+", file.read_text("utf-8").lower()):
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    return stack[0][0]


def _target(region: Expression) -> str:
    return next(part[1] for part in region[1:] if part[0] == ":target")


def _kinds(words: Expression) -> dict[str, str]:
    """Return the kind of every name in `name name - kind name - kind`."""
    found: dict[str, str] = {}
    names: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if before == "-":
            found |= dict.fromkeys(names, word)
            names = []
        elif word != "-":
            names.append(word)
    return found


@cache
def _joints(file: Path) -> tuple[tuple[str, float, float], ...]:
    """Return names and limits of the joints in a fixture's model; none for one without a file."""
    if not file.exists():
        return ()
    joints = ElementTree.parse(file).iter("joint")
    return tuple((joint.attrib["name"], *_range(joint.attrib["range"])) for joint in joints)


def _range(text: str) -> tuple[float, float]:
    low, high = map(float, text.split())
    return low, high
