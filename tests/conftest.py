import gc
import os

# One thread each, here and in processes that tests start: there are tests enough for every core.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MUJOCO_GL"] = "egl"

from functools import lru_cache

import pytest
from jaxtyping import install_import_hook
from threadpoolctl import threadpool_limits

import support.typecheck  # noqa: F401  # found by the hook
from support import ROOT

threadpool_limits(1, user_api="blas")  # threads of BLAS fight over robosuite's 7 x 7 matrices


# numba cannot compile functions that the hook has wrapped
COMPILED = ("native", "osc", "simulator", "stepping", "__init__")
checked = [
    ".".join(("reconverge", *path.relative_to(ROOT).with_suffix("").parts))
    for path in (ROOT / "envs").rglob("*.py")
    if path.stem not in COMPILED
]
install_import_hook(
    ["reconverge.policy", "reconverge.datasets", *checked], "support.typecheck.check"
)

from reconverge.envs.catalog import TASKS  # noqa: E402
from reconverge.envs.suites import SUITES, in_frame  # noqa: E402
from support.rows import rows  # noqa: E402
from support.simulators import use_simulators  # noqa: E402
from support.tiny_run import make_demonstrations  # noqa: E402

MOST_SIMULATORS, MOST_REFERENCES = 4, 1  # in memory, with up to 200 MB each
BUILT_IN = dict(SUITES)  # tests replace how the suites in the table make simulators
ROWS = dict(TASKS)  # tests shorten rows of the table


def pytest_collection_finish():
    """Leave alone what is there to stay, where `tidied` looks for what can be freed."""
    gc.freeze()


@pytest.fixture(scope="module", params=rows())
def task(request):
    """Rows of every suite; all tests of a module run over one before the next."""
    return TASKS[request.param]


@pytest.fixture(scope="module", params=rows("robosuite"))
def robosuite_task(request):
    """Every row of robosuite."""
    return TASKS[request.param]


@pytest.fixture(scope="module", params=rows("metaworld"))
def metaworld_task(request):
    """Rows of Meta-World."""
    return TASKS[request.param]


@pytest.fixture(scope="module", autouse=True)
def tidied():
    """Free the simulators of a module at its end: they are cycles, large and few."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def simulator_of():
    """The simulator of a task and an input frame, built once a session unless there are too many
    to keep.
    """
    built = lru_cache(MOST_SIMULATORS)(
        lambda name, frame: make_built_in(in_frame(ROWS[name], frame))
    )
    return lambda task: built(task.name, task.input_frame)


def make_built_in(task):
    return BUILT_IN[task.suite].make(task)


@pytest.fixture
def made_simulators(monkeypatch, simulator_of):
    """Names and frames of the tasks whose simulators the test makes, robosuite's being shared."""
    made = []

    def make(task):
        made.append((task.name, task.input_frame))
        return simulator_of(task)

    use_simulators(monkeypatch, "robosuite", make)
    return made


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory, simulator_of):
    """A folder with stores of lift and can, two episodes each, not to be written."""
    with pytest.MonkeyPatch.context() as patch:
        use_simulators(patch, "robosuite", simulator_of)
        return make_demonstrations(tmp_path_factory.mktemp("stores"), ["lift", "can"])


@pytest.fixture(scope="session")
def reference_of():
    """robosuite's own environment of a task: the truth that native stepping is held to."""
    from reconverge.envs.suites.robosuite.model import make_robosuite

    built = lru_cache(MOST_REFERENCES)(lambda name: make_robosuite(TASKS[name]))
    return lambda task: built(task.name)
