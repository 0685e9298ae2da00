"""What is typed as name=value, in hydra's grammar: text is taken literally, paths are expanded."""

from __future__ import annotations

import hashlib
import os
import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf

from reconverge.configs.store import Command
from reconverge.errors import ReconvergeError, unknown
from reconverge.options import text_options
from reconverge.paths import expanded

LONGEST = 150  # bytes of a folder's name that lists the options of a run of a sweep


def in_grammar(command: Command, argument: str) -> str:
    """Return `name=value` as hydra reads it; hydra would take a comma for a sweep, say.

    `env=lift,can` becomes a list. The value of an option that holds text is that text, also where
    it is quoted as hydra wants it. There are no other options, so a `+` of hydra's adds nothing.
    ReconvergeError for a path that is empty, and for no choice of a group.
    """
    key, separator, value = argument.partition("=")
    if not separator:
        return argument
    key = key if "hydra" in key else key.lstrip("+")
    if key == "env" and not value.startswith(("[", "'", '"')):
        return f"env=[{value}]"
    if key in command.groups and value == "null":
        raise unknown(key, value, command.groups[key])
    options = command.options()
    kind = dict(text_options(options)).get(key)
    if kind is None or value == "null" or re.fullmatch(r"\[.*\]", value, re.DOTALL):
        return f"{key}={value}"
    if isinstance(getattr(options, key, None), list):
        return f"{key}=[{','.join(_text(key, kind, part) for part in value.split(',') if part)}]"
    return f"{key}={_text(key, kind, value)}"


def _text(key: str, kind: str, value: str) -> str:
    text = unquoted(value)
    if not text and kind == "path":
        raise ReconvergeError(f"{key}= is empty; give a path, or leave it out")
    return quoted(expanded(text) if kind == "path" else text)  # here, not where a job runs


def quoted(text: str) -> str:
    """Return text in quotes, so that hydra and omegaconf read nothing but text."""
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return QuotedString(escaped, Quote.single).with_quotes()


def unquoted(value: str) -> str:
    """Return what `quoted` was given, and a value that is not in quotes as it is."""
    if len(value) < 2 or value[0] != value[-1] or value[0] not in "'\"":
        return value
    try:
        parsed = OverridesParser.create().parse_override(f"x={value}").value()
    except HydraException:
        return value
    if not isinstance(parsed, str):
        return value
    return re.sub(r"(\\*)\1\\\$\{", r"\1${", parsed)


def short_name(name: str) -> str:
    """Return the name of a folder, of `name=value,...`; one that file systems would refuse has its
    shortest parts first, as `seed=0`, is cut, and ends with its hash.
    """
    encoded = os.fsencode(name)
    if len(encoded) <= LONGEST:
        return name
    parts = sorted(re.split(r",(?=[\w.]+=)", name), key=len)
    kept = os.fsdecode(os.fsencode(",".join(parts))[: LONGEST - 20]).rstrip()
    return f"{kept}-{hashlib.sha1(encoded).hexdigest()[:16]}"


OmegaConf.register_new_resolver("short_name", short_name, replace=True)
