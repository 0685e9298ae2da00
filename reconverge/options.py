"""Options as frozen dataclasses: default, meaning and range of a value stand once, at its field."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, field, fields, is_dataclass, replace
from typing import Any

import yaml

from reconverge.errors import ReconvergeError, unknown
from reconverge.paths import check_name, expanded

LARGEST = 10**9
"""The most that a whole number may be whose option says nothing else."""


def option(
    default: Any,
    meaning: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: Sequence[str] = (),
    text: str = "",
) -> Any:
    """Return a dataclass field with its meaning (shown by `--help`) and its range.

    Numbers must be finite unless only `above` bounds them, whole ones at most LARGEST unless
    `at_most` says more. `text` tells what text is: "path" (a file or a folder, whose ~ and $VAR are
    expanded), "folder" (the name of one below another) or "free"; the command line takes it
    literally. A list or a dataclass as default is shared by all instances, so treat it as a
    constant.
    """
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    metadata = {"meaning": meaning, "choices": choices, "text": text, **limits}
    if isinstance(default, list) or is_dataclass(default):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


def check_options(options: Any, prefix: str = "") -> None:
    """Raise ReconvergeError, naming the option, for the first value that is out of its range."""
    for spec in fields(options):
        name, value = f"{prefix}{spec.name}", getattr(options, spec.name)
        if is_dataclass(value):
            check_options(value, f"{name}.")
        elif not spec.metadata and isinstance(value, str):
            _check_row(prefix.removesuffix("."), name, value, spec)
        elif spec.metadata.get("choices") and value is not None:
            if value not in spec.metadata["choices"]:
                raise unknown(name, value, spec.metadata["choices"])
        elif spec.metadata.get("text") == "folder" and value is not None:
            check_name(name, value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            _check_number(name, value, spec)


def choose(kind: str, table: Mapping[str, type], values: Mapping[str, Any]) -> Any:
    """Build the options that `values` describe; their `name` chooses the row of the table."""
    name = str(values.get("name"))
    if name not in table:
        raise unknown(kind, name, table)
    legal = [spec.name for spec in fields(table[name])]
    for key in values:
        if key not in legal:
            raise unknown(f"option of {kind} {name!r}", key, legal)
    return table[name](**values)


def _check_row(group: str, name: str, value: Any, spec: Field) -> None:
    """Raise ReconvergeError where the options of one row of a table bear the name of another."""
    if spec.name == "name" and value != spec.default:
        remedy = "leave it out" if "." in group else f"{group}={value} chooses another"
        raise ReconvergeError(f"{name}={value}: the options are those of {spec.default}; {remedy}")


def _check_number(name: str, value: float, spec: Field) -> None:
    limits = spec.metadata
    at_least, above = limits.get("at_least"), limits.get("above")
    at_most, below = limits.get("at_most"), limits.get("below")
    whole = isinstance(value, int)
    if whole and at_most is None and value > LARGEST:
        at_most = LARGEST
    finite = whole or above is not None or math.isfinite(value)
    legal = (
        finite
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
        and (below is None or value < below)
    )
    if not legal:
        bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
        wanted = [f"{word} {b}" for word, b in bounds.items() if b is not None]
        wanted = wanted if finite else ["finite", *wanted]
        raise ReconvergeError(f"{name}={value}: must be {' and '.join(wanted)}")


def option_names(options: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all options and of their groups."""
    for spec in fields(options):
        yield f"{prefix}{spec.name}"
        value = getattr(options, spec.name)
        if is_dataclass(value):
            yield from option_names(value, f"{prefix}{spec.name}.")


def text_options(options: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name of every option that holds text, and what its text is."""
    for spec in fields(options):
        if kind := spec.metadata.get("text"):
            yield f"{prefix}{spec.name}", kind
        value = getattr(options, spec.name)
        if is_dataclass(value):
            yield from text_options(value, f"{prefix}{spec.name}.")


def with_paths_expanded(options: Any) -> Any:
    """Return the options with `~` and `$VAR` replaced in every path, nested ones too."""
    changes = {}
    for spec in fields(options):
        value = getattr(options, spec.name)
        if is_dataclass(value):
            changes[spec.name] = with_paths_expanded(value)
        elif spec.metadata.get("text") == "path" and value:
            several = isinstance(value, list)
            changes[spec.name] = [*map(expanded, value)] if several else expanded(value)
    return replace(options, **changes)


def help_lines(options: Any, indent: str = "") -> list[str]:
    """Return one line an option, `name: default  # meaning`; groups are indented below theirs."""
    lines = []
    for spec in fields(options):
        if not spec.metadata:  # the name of a row, or the choice of a group
            continue
        value, meaning = getattr(options, spec.name), spec.metadata["meaning"]
        comment = f"  # {meaning}" if meaning else ""
        if is_dataclass(value):
            lines += [f"{indent}{spec.name}:{comment}", *help_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{spec.name}: {_as_yaml(value)}{comment}")
    return lines


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
