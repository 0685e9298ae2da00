import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of the processes that tests start
os.environ["MUJOCO_GL"] = "egl"

from functools import cache
from pkgutil import iter_modules

import pytest
from beartype import beartype
from beartype.roar import BeartypeDecorHintPep3119Exception
from jaxtyping import install_import_hook
from threadpoolctl import threadpool_limits

import envs

threadpool_limits(1, user_api="blas")  # threads of BLAS fight over robosuite's 7 x 7 matrices


def check(function):
    """Check shapes and types at run time, except where a signature names a protocol: those cannot be checked."""
    try:
        return beartype(function)
    except BeartypeDecorHintPep3119Exception:
        return function


COMPILED = ("native", "osc", "metaworld_tasks")  # numba cannot compile functions that the hook has wrapped
checked = [f"envs.{module.name}" for module in iter_modules(envs.__path__) if module.name not in COMPILED]
install_import_hook(["policy", "datasets", *checked], "conftest.check")

from envs.tasks import TASKS  # noqa: E402
from envs.vector import SUITES  # noqa: E402

BUILDERS = dict(SUITES)  # tests replace those in the table by the session's simulators


@pytest.fixture(params=list(TASKS))
def task(request):
    """Every row of the table of tasks."""
    return TASKS[request.param]


@pytest.fixture(params=[name for name, task in TASKS.items() if task.suite == "robosuite"])
def robosuite_task(request):
    """Every row of robosuite."""
    return TASKS[request.param]


@pytest.fixture(params=[name for name, task in TASKS.items() if task.suite == "metaworld"])
def metaworld_task(request):
    """Every row of Meta-World."""
    return TASKS[request.param]


@pytest.fixture(scope="session")
def simulator_of():
    """The simulator of a task, built once a session."""
    return by_name(lambda task: BUILDERS[task.suite](task))


@pytest.fixture(scope="session")
def reference_of():
    """robosuite's own environment of a task, built once a session: the truth that native stepping is held to."""
    from envs.robosuite_tasks import make_robosuite

    return by_name(make_robosuite)


def by_name(make):
    built = cache(lambda name: make(TASKS[name]))
    return lambda task: built(task.name)
