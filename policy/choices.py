"""One wording for every unknown name: what was asked, the legal names, and the nearest of them."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, name: object, choices: Iterable[str]) -> ValueError:
    """The error to raise for a name that a table does not hold."""
    names = list(choices)
    near = get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {kind} {name!r}: choose one of {', '.join(names)}{hint}")
