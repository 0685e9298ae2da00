"""Rows of the table of tasks that the contract tests run over."""

import os

import pytest

from reconverge.envs.catalog import ALIASES, TASKS

# Of robosuite one for each kind of object, one of several, and the one that a reset places in the
# model; of LIBERO two, where it is installed; of Meta-World three, or, in the tests of that suite,
# CW10 and one for each way of reading an environment; the rest with ALL_TASKS=1.
ROBOSUITE = ("lift", "can", "square", "milk", "stack", "door")
LIBERO = ("libero_object_0", "libero_spatial_4")  # on the floor; on a table, with a drawer
SOME = ("hammer", "push-back", "stick-pull")
KINDS = ("reach", "assembly", "lever-pull", "peg-insert-side", "box-close", "stick-push")
FIRST = ("lift", "push-back", "libero_object_0")
of_each = [name for name in TASKS if name in FIRST or os.environ.get("ALL_TASKS")]
ONE_OF_EACH_SUITE = pytest.mark.parametrize("task", of_each, indirect=True)
"""Runs a test over one row of every suite, or over all."""


def rows(suite=None):
    """Names of a suite's rows, or of all."""
    of_metaworld = (*ALIASES["cw10"], *KINDS) if suite else SOME
    wanted = (*ROBOSUITE, *LIBERO, *of_metaworld)
    return [
        name
        for name, task in TASKS.items()
        if suite in (None, task.suite) and (os.environ.get("ALL_TASKS") or name in wanted)
    ]
