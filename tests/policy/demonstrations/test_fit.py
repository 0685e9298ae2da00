import pytest

from reconverge.datasets.store import DemonstrationStore, StoreError
from reconverge.envs.catalog import TASKS
from reconverge.policy.demonstrations.fit import (
    in_frames_of,
    input_frame,
    require_fit,
    task_of,
    unplayable,
)
from support.stores import store_from_elsewhere


@pytest.fixture
def elsewhere(simulator_of, tmp_path):
    """A store of lift as a converter makes it, under a name that says nothing."""
    versions = {"robosuite": "1.4.1"}
    return store_from_elsewhere(
        simulator_of(TASKS["lift"]), tmp_path / "anything.zarr", versions=versions
    )


def test_task_of_reads_task_environment_or_file_name(elsewhere, tmp_path):
    assert task_of(elsewhere) is TASKS["lift"]
    elsewhere.update_attributes({"task": "can"})
    assert task_of(elsewhere) is TASKS["can"]
    plain = DemonstrationStore.create(tmp_path / "square.zarr", TASKS["square"].sizes, 7, {})
    assert task_of(plain) is TASKS["square"]


def test_input_frame_refuses_one_that_the_suite_lacks(elsewhere):
    assert input_frame(elsewhere) == "world"
    elsewhere.update_attributes({"input_frame": "hand"})
    with pytest.raises(StoreError, match=r"frame of lift 'hand': choose one of base, world"):
        input_frame(elsewhere)


def test_in_frames_of_keeps_all_else(elsewhere, tmp_path):
    plain = DemonstrationStore.create(tmp_path / "can.zarr", TASKS["can"].sizes, 7, {})
    found = in_frames_of([TASKS["lift"], TASKS["can"]], [elsewhere, plain])
    assert [task.input_frame for task in found] == ["world", "base"]
    assert found[1] == TASKS["can"]


def test_require_fit_warns_of_other_versions(elsewhere):
    with pytest.warns(UserWarning, match=r"made with robosuite 1\.4\.1, running robosuite 1\.5"):
        require_fit(elsewhere, TASKS["lift"])


def test_require_fit_refuses_another_task_other_sizes_and_no_episode(elsewhere, tmp_path):
    with pytest.raises(StoreError, match="is of lift, wanted can"):
        require_fit(elsewhere, TASKS["can"])
    sizes = {**TASKS["lift"].sizes, "object": 9}
    other = DemonstrationStore.create(tmp_path / "lift.zarr", sizes, 7, {})
    with pytest.raises(StoreError, match="observation object has 9 numbers, lift wants 10"):
        require_fit(other, TASKS["lift"])
    empty = DemonstrationStore.create(tmp_path / "can.zarr", TASKS["can"].sizes, 7, {})
    with pytest.raises(StoreError, match="has no episode"):
        require_fit(empty, TASKS["can"])


def test_unplayable_says_why(elsewhere, tmp_path):
    assert unplayable(elsewhere) == ""
    plain = DemonstrationStore.create(tmp_path / "can.zarr", TASKS["can"].sizes, 7, {})
    assert "neither meta/seed nor data/states" in unplayable(plain)
    hammer = TASKS["hammer"]
    states = DemonstrationStore.create(
        tmp_path / "hammer.zarr", hammer.sizes, 4, {}, extra_sizes={"states": 9}
    )
    assert "neither meta/seed" in unplayable(states)  # Meta-World restores none
