"""Malformed command lines, drawn from a seed, for every command."""

import random

from reconverge.cli import COMMANDS
from reconverge.configs.store import Command
from reconverge.options import option_names

TEXTS = [
    "",
    " ",
    "'",
    '"',
    "it's",
    "a b",
    "ü😀",
    "#",
    "(",
    "[",
    "]",
    "{",
    "}",
    "a,b",
    "a=b",
    "$HOME",
    "${x}",
]
TEXTS += [
    "\\",
    "../..",
    "/nowhere/x",
    "~",
    "\n",
    "null",
    "nan",
    "inf",
    "-1",
    "1e30",
    "2.5",
    "true",
    "%s",
]
TEXTS += [
    "18446744073709551616",
    "9" * 400,
    "x" * 5000,
    "[1,2",
    "{a:b}",
    "choice(1,2)",
    "!x",
    "@y",
    "`z`",
]
FLAGS = [
    "--hlep",
    "--seed",
    "-x",
    "--output",
    "--multirum",
    "--",
    "---",
    "-",
    "--cfg",
    "--inner-rate=inf",
]
WORDS = ["run", "ünder", "env", "=", "==", "=x", "x=", "+x", "~", "~seed", "++", "/", "."]


def command_lines(seed, count):
    """Yield (sub-command, arguments) without end or `count` of them."""
    draw = random.Random(seed)
    for _ in range(count):
        name = draw.choice([name for name in COMMANDS if not name.startswith("benchmark")])
        yield name, [_argument(draw, name) for _ in range(draw.randint(1, 3))]


def _argument(draw, name):
    module = __import__(f"reconverge.{COMMANDS[name][0]}", fromlist=["COMMAND"])
    command = getattr(module, "COMMAND", None) or getattr(module, "TRAIN", None)
    kind = draw.randrange(8)
    if kind == 0 or not isinstance(command, Command):
        return draw.choice([draw.choice(FLAGS), draw.choice(TEXTS), draw.choice(WORDS)])
    if kind == 1:
        return draw.choice(WORDS)
    options = [command.options(), *(row() for t in command.groups.values() for row in t.values())]
    known = [*option_names(options[0]), *command.groups]
    for group, table in command.groups.items():
        known += [f"{group}.{name}" for row in table.values() for name in option_names(row())]
    key = draw.choice(known)
    if kind == 2:  # misspelt
        at = draw.randrange(len(key))
        key = key[:at] + draw.choice("xü.=[ ") + key[at + 1 :]
    prefix = draw.choice(["", "", "", "", "+", "++", "~"])
    return f"{prefix}{key}={draw.choice(TEXTS)}"
