import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from reconverge.envs import seeds
from reconverge.envs.catalog import ALIASES, TASKS, get_task, simulated_by, task_sequence
from reconverge.envs.suites import SUITES, in_frame, with_starts
from reconverge.envs.suites.libero.installation import installed
from reconverge.errors import ReconvergeError


def names(tasks):
    return [task.name for task in tasks]


def test_tasks_are_keyed_by_their_names():
    for name, task in TASKS.items():
        assert task.name == name
        assert SUITES[task.suite].name == task.suite
    there = [a for a in ALIASES if installed() or not a.startswith("libero")]
    assert {get_task(name).name for alias in there for name in ALIASES[alias]} <= set(TASKS)


@pytest.mark.skipif(installed(), reason="LIBERO is installed")
def test_tasks_of_libero_say_how_it_is_installed():
    for name in ("libero_object_3", "libero_90"):
        with pytest.raises(ReconvergeError, match=r"LIBERO is not installed; pip install"):
            task_sequence(name)


SIZES = {"lift": 19, "stack": 32} | dict.fromkeys(
    ("can", "square", "milk", "bread", "cereal", "round", "door"), 23
)


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_task_sizes_are_robosuites(name, size):
    task = TASKS[name]
    parts = {
        "object": size - 9,
        "robot0_eef_pos": 3,
        "robot0_eef_quat": 4,
        "robot0_gripper_qpos": 2,
    }
    assert list(task.sizes.items()) == list(parts.items())
    assert (task.observation_size, task.action_size, task.max_steps) == (size, 7, 400)


def test_task_bounds_fit_the_observation(task):
    assert task.low.shape == task.high.shape == (task.observation_size,)
    assert (task.low < task.high).all()


def test_split_names_the_parts_of_a_batch(task):
    flat = np.random.default_rng(0).standard_normal((5, task.observation_size))
    parts = task.split(flat)
    assert {key: part.shape for key, part in parts.items()} == {
        key: (5, n) for key, n in task.sizes.items()
    }
    np.testing.assert_array_equal(np.concatenate(list(parts.values()), axis=-1), flat)


def test_task_sequence_keeps_the_order():
    assert names(task_sequence("square,lift")) == ["square", "lift"]
    assert names(task_sequence(["can", " lift "])) == ["can", "lift"]
    assert names(task_sequence("robosuite")) == ["lift", "can", "square"]


def test_get_task_gives_a_later_visit_its_own_label():
    again = get_task("push-back_2")
    assert (again.name, again.label, again.simulator) == (
        "push-back",
        "push-back_2",
        TASKS["push-back"].simulator,
    )
    assert [task.label for task in task_sequence("cw20")] == [
        *ALIASES["cw10"],
        *(f"{n}_2" for n in ALIASES["cw10"]),
    ]
    assert names(task_sequence("cw20")) == 2 * list(ALIASES["cw10"])
    for unknown in ("lift_1", "lift_", "lift_x", "xyzzy_2"):
        with pytest.raises(ValueError, match=f"unknown task '{unknown}'"):
            get_task(unknown)


@pytest.mark.parametrize("name", ["squore", "Square"])
def test_get_task_names_all_and_the_nearest(name):
    for find in (get_task, task_sequence):
        with pytest.raises(
            ValueError,
            match=f"unknown task '{name}': choose one of lift, can, square.*did you mean 'square'",
        ):
            find(name)


def test_get_task_names_all_if_none_is_near():
    with pytest.raises(
        ValueError, match=r"unknown task 'xyzzy': choose one of lift, can, square, .*libero_90$"
    ):
        get_task("xyzzy")


@pytest.mark.parametrize("empty", ["", " ", ",", []])
def test_task_sequence_refuses_no_tasks(empty):
    with pytest.raises(ValueError, match="env= names no task; give one or more of lift"):
        task_sequence(empty)


@pytest.mark.parametrize("repeated", ["can,lift,can", ["can", "can"], "can,robosuite"])
def test_task_sequence_refuses_a_repeated_task(repeated):
    with pytest.raises(ValueError, match="env= repeats can; name every task once"):
        task_sequence(repeated)


def test_task_sequence_refuses_a_visit_under_another_name():
    with pytest.raises(ReconvergeError, match="env= repeats lift_2; name every task once"):
        task_sequence("lift,lift_2,lift_02")


def test_seeds_are_disjoint_ranges():
    ranges = [value for value in vars(seeds).values() if isinstance(value, range)]
    assert len(ranges) >= 4
    assert all(len(r) >= 100_000 for r in ranges)
    ordered = sorted(ranges, key=lambda r: r.start)
    assert all(a.stop <= b.start for a, b in pairwise(ordered))


def test_task_sequence_numbers_the_tasks():
    assert [task.index for task in task_sequence("square,lift_2,can")] == [0, 1, 2]


def test_simulated_by_finds_the_task_of_an_environment():
    assert simulated_by("PickPlaceCan") is TASKS["can"]
    assert simulated_by("hammer-v3") is TASKS["hammer"]
    assert simulated_by("Wipe") is None


def test_in_frame_accepts_the_frames_of_the_suite_only():
    world = in_frame(TASKS["lift"], "world")
    assert (world.input_frame, TASKS["lift"].input_frame) == ("world", "base")
    with pytest.raises(ReconvergeError, match=r"of hammer 'world': choose one of base$"):
        in_frame(TASKS["hammer"], "world")


def test_suite_gives_every_number_a_meaning(task):
    suite = SUITES[task.suite]
    assert sum(size for size, _ in suite.actions) == task.action_size
    assert task.sizes.keys() <= {**suite.meanings, **task.meanings}.keys()


def test_catalog_imports_no_simulator():
    program = (
        "import sys; import reconverge.envs.catalog\n"
        "print(sorted({'mujoco', 'robosuite', 'metaworld', 'numba'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr


def test_with_starts_refuses_a_suite_that_publishes_none():
    with pytest.raises(
        ReconvergeError, match=r"starts=official: robosuite \(lift\) publishes none"
    ):
        with_starts(TASKS["lift"], "official")
    with pytest.raises(ReconvergeError, match="unknown starts 'x': choose one of seeds, official"):
        with_starts(TASKS["lift"], "x")
    assert with_starts(TASKS["lift"], "seeds") == TASKS["lift"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"observations": {"object": ((0.0,), (-1.0,))}}, "observation object is from"),
        ({"observations": {"object": ((0.0,), (1.0, 1.0))}}, "observation object is from"),
        ({"observations": {"object": ((0.0,), (math.inf,))}}, "observation object is from"),
        ({"max_steps": 0}, "max_steps=0"),
    ],
)
def test_a_task_refuses_bounds_that_bound_nothing(changes, said):
    with pytest.raises(ReconvergeError, match=f"task lift: {said}"):
        replace(TASKS["lift"], **changes)
