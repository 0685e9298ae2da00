"""Every task in gymnasium's registry, in whatever order things are imported."""

import subprocess
import sys
import warnings
from dataclasses import replace

import gymnasium
import pytest
from gymnasium.envs.registration import parse_env_id

from reconverge.envs.catalog import TASKS
from reconverge.envs.registration import env_id, register_tasks


def ours():
    return {name for name in gymnasium.registry if name.startswith("reconverge/")}


def test_every_row_of_the_table_is_registered(task):
    spec = gymnasium.spec(f"reconverge/{task.name}-v0")
    assert spec.kwargs == {"task": task.name}
    assert spec.max_episode_steps == task.max_steps
    assert len(ours()) == len(TASKS)


def test_a_row_that_is_added_or_changed_is_registered_again_without_a_warning(monkeypatch):
    before = ours()
    monkeypatch.setitem(TASKS, "fast", replace(TASKS["lift"], name="fast", max_steps=9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register_tasks()
    assert ours() == before | {"reconverge/fast-v0"}
    assert gymnasium.spec("reconverge/fast-v0").max_episode_steps == 9
    del gymnasium.registry["reconverge/fast-v0"]


@pytest.mark.parametrize("name", [*TASKS, "door-open-v3", "lift_2", "a b/c:d", "Öl.1"])
def test_env_id_is_legal_whatever_the_name(name):
    namespace, _, version = parse_env_id(env_id(name))
    assert (namespace, version) == ("reconverge", 0)
    assert ":" not in env_id(name)  # before it gymnasium looks for a module


MAKE = "gymnasium.make('reconverge/push-back-v0')"
ORDERS = [
    f"import gymnasium, reconverge.envs; {MAKE}",
    f"import reconverge.envs, gymnasium; {MAKE}",
    f"import gymnasium, reconverge; {MAKE}",
    f"import reconverge, gymnasium; reconverge.TASKS; {MAKE}",
    "import gymnasium; gymnasium.make('reconverge.envs:reconverge/push-back-v0')",
    "import gymnasium; gymnasium.make('reconverge:reconverge/push-back-v0')",
]


def test_make_knows_the_tasks_in_any_order_of_imports():
    """Without making simulators, which takes long: the specification is what is looked up."""
    found = [
        subprocess.run(
            [sys.executable, "-c", code.replace("make(", "envs.registration._find_spec(")],
            capture_output=True,
            text=True,
        )
        for code in ORDERS
    ]
    assert [done.returncode for done in found] == [0] * len(ORDERS), found
