"""Which tasks are probed when."""

import pytest

from reconverge.policy.continual.probing import COARSE, DENSE, Probing


def counts(probing, learning, task, updates):
    return [u for u in range(1, updates + 1) if task in probing.due(learning, u, updates)]


def test_the_dense_grid_is_dense_early_and_ends_with_the_task():
    early = [2, 4, 6, 8, 10, 15, 20, 30, 50]
    probing = Probing(rollouts=1)
    assert counts(probing, 1, 0, 1) == [1]
    assert counts(probing, 1, 0, 2) == [2]
    assert counts(probing, 1, 0, 50) == early
    assert counts(probing, 1, 0, 2500) == [*early, 100, 200, 500, 1000, 2000, 2500]
    assert counts(probing, 1, 0, 50_000)[-6:] == [1000, 2000, 5000, 10_000, 20_000, 50_000]


def test_the_coarse_grid_is_part_of_the_dense_one():
    assert set(COARSE) < set(DENSE)
    assert counts(Probing(rollouts=1, dense=0), 1, 0, 1500) == [10, 50, 200, 1000, 1500]


def test_the_first_tasks_are_probed_densely_the_others_coarsely():
    probing = Probing(rollouts=1, dense=1)
    assert [probing.due(3, update, 100) for update in (1, 2, 10, 100)] == [
        [],
        [0],
        [0, 1, 2],
        [0, 1, 2],
    ]


@pytest.mark.parametrize(("tasks", "probed"), [(None, [0, 1]), (2, [0, 1]), (1, [0])])
def test_the_first_tasks_alone_are_probed(tasks, probed):
    assert Probing(rollouts=1, tasks=tasks).due(2, 2, 100) == probed


def test_nothing_is_probed_without_rollouts():
    assert Probing(current=1).due(2, 100, 100) == []


def test_the_current_task_is_probed_at_even_distances_to_its_end():
    probing = Probing(rollouts=1, current=5)
    assert counts(probing, 0, 0, 12) == [2, 4, 7, 9, 12]
    assert counts(probing, 3, 3, 1500) == [300, 600, 900, 1200, 1500]
    assert counts(Probing(rollouts=1, current=9), 0, 0, 3) == [1, 2, 3]
    assert counts(Probing(rollouts=1), 0, 0, 12) == []
