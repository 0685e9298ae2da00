"""Shapes and types of arguments and results, checked while the tests run."""

from contextlib import contextmanager

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep3119Exception
from jaxtyping import config


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


@contextmanager
def unchecked():
    """Check no shapes for a while: where the same calls, hundreds of them, were checked before."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)
