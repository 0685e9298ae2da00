"""The errors that a user can mend, and the one wording for a name that does not exist."""

from collections.abc import Iterable
from difflib import get_close_matches

NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "Unable to allocate",
    "alloc failed",
    "ALLOC_FAILED",  # of CUDA's libraries
)


class ReconvergeError(ValueError):
    """One line that a user can act on: the offending value, the legal ones, and the remedy.

    The command line prints it and ends with exit code 2. Every other exception is a bug of this
    package and keeps its traceback.
    """


def one_line(error: Exception) -> str:
    """Return the type and the message of an error in a line of at most 200 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")[:200]


def unknown(
    kind: str,
    name: object,
    choices: Iterable[str],
    error: type[ReconvergeError] = ReconvergeError,
    more: Iterable[str] = (),
) -> ReconvergeError:
    """Build the error for a name that is not among the choices; it lists them and the nearest, of
    them or of `more` that are too many to list.
    """
    names = list(choices)
    near = get_close_matches(str(name), [*names, *more], n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return error(f"unknown {kind} {name!r}: choose one of {', '.join(names)}{hint}")


def lacks_memory(error: BaseException) -> bool:
    """Return whether Python, a library or a GPU had no memory left."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)
