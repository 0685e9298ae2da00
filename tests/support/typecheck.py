"""Shapes and types of arguments and results, checked while the tests run."""

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep3119Exception


def check(function):
    """Check shapes and types at run time, except where a signature names a protocol: those cannot
    be checked. Nor are functions within functions, which would be prepared anew at every call.
    """
    if "<locals>" in function.__qualname__:
        return function
    try:
        return beartype(function)
    except BeartypeDecorHintPep3119Exception:
        return function
