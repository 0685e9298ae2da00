from itertools import pairwise

import numpy as np
import pytest

from envs import seeds
from envs.experts import EXPERTS
from envs.tasks import ALIASES, TASKS, get_task, task_sequence
from envs.vector import SUITES


def names(tasks):
    return [task.name for task in tasks]


def test_the_key_of_a_row_is_its_name_and_its_suite_and_expert_exist():
    for name, task in TASKS.items():
        assert task.name == name
        assert task.suite in SUITES
        assert task.expert in EXPERTS
    assert {get_task(name).name for names in ALIASES.values() for name in names} <= set(TASKS)


@pytest.mark.parametrize(("name", "size"), [("lift", 19), ("can", 23), ("square", 23)])
def test_sizes_are_robomimics(name, size):
    task = TASKS[name]
    parts = {"object": size - 9, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
    assert list(task.sizes.items()) == list(parts.items())
    assert (task.observation_size, task.action_size, task.horizon) == (size, 7, 400)


def test_bounds_have_the_size_of_the_observation_and_width(task):
    assert task.low.shape == task.high.shape == (task.observation_size,)
    assert (task.low < task.high).all()


def test_split_names_the_parts_of_a_batch_in_their_order(task):
    flat = np.random.default_rng(0).standard_normal((5, task.observation_size))
    parts = task.split(flat)
    assert {key: part.shape for key, part in parts.items()} == {key: (5, n) for key, n in task.sizes.items()}
    np.testing.assert_array_equal(np.concatenate(list(parts.values()), axis=-1), flat)


def test_a_sequence_keeps_the_order_given():
    assert names(task_sequence("square,lift")) == ["square", "lift"]
    assert names(task_sequence(["can", " lift "])) == ["can", "lift"]
    assert names(task_sequence("robosuite")) == ["lift", "can", "square"]


def test_a_later_visit_is_the_same_task_under_a_name_of_its_own():
    again = get_task("push-back_2")
    assert (again.name, again.label, again.simulator) == ("push-back", "push-back_2", TASKS["push-back"].simulator)
    assert [task.label for task in task_sequence("cw20")] == [*ALIASES["cw10"], *(f"{n}_2" for n in ALIASES["cw10"])]
    assert names(task_sequence("cw20")) == 2 * list(ALIASES["cw10"])
    for unknown in ("lift_1", "lift_", "lift_x", "xyzzy_2"):
        with pytest.raises(ValueError, match=f"unknown task '{unknown}'"):
            get_task(unknown)


@pytest.mark.parametrize("name", ["squore", "Square"])
def test_an_unknown_task_is_answered_with_the_nearest_and_all(name):
    for find in (get_task, task_sequence):
        with pytest.raises(ValueError, match=f"unknown task '{name}'.*did you mean 'square'.*lift, can, square"):
            find(name)


def test_an_unknown_task_near_to_none_is_answered_with_all():
    with pytest.raises(ValueError, match="unknown task 'xyzzy'; choose from lift, can, square"):
        get_task("xyzzy")


@pytest.mark.parametrize("empty", ["", " ", ",", []])
def test_a_sequence_without_tasks_is_refused(empty):
    with pytest.raises(ValueError, match="env= names no task; give one or more of lift"):
        task_sequence(empty)


@pytest.mark.parametrize("repeated", ["can,lift,can", ["can", "can"], "can,robosuite"])
def test_a_repeated_task_is_refused_by_name(repeated):
    with pytest.raises(ValueError, match="env= repeats can; name every task once"):
        task_sequence(repeated)


def test_ranges_of_seeds_never_meet():
    ranges = [value for value in vars(seeds).values() if isinstance(value, range)]
    assert len(ranges) >= 3
    ordered = sorted(ranges, key=lambda r: r.start)
    assert all(a.stop <= b.start for a, b in pairwise(ordered))
