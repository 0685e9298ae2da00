import warnings

import numpy as np
import pytest

from reconverge.datasets.formats.env_args import convention, make_env_args
from reconverge.datasets.layout import StoreWarning
from reconverge.datasets.store import DemonstrationStore, Episode, StoreError
from reconverge.envs.catalog import TASKS
from reconverge.envs.suites import SUITES
from reconverge.policy.demonstrations import fit
from reconverge.policy.demonstrations.fit import (
    check_meaning,
    in_frames_of,
    input_frame,
    misfit,
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


def test_require_fit_warns_of_another_libero(elsewhere, monkeypatch):
    recorded = {**elsewhere.attributes["versions"], "rpent-libero": "0.1"}
    monkeypatch.setattr(elsewhere, "attributes", {**elsewhere.attributes, "versions": recorded})
    monkeypatch.setattr(fit, "version", lambda name: {"rpent-libero": "0.2"}.get(name, "1.4.1"))
    with pytest.warns(UserWarning, match=r"made with rpent-libero 0\.1, running rpent-libero 0\.2"):
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


def osc(**changes):
    arm = {"type": "OSC_POSE", "control_delta": True, "input_max": 1, "kp": [150.0] * 6, **changes}
    return {"controller_configs": arm}


OTHERS = {
    "robot": ({"robots": ["Sawyer"]}, "robot Sawyer, lift takes robot Panda"),
    "rate": ({"control_freq": 10}, "control_hz 10, lift takes control_hz 20"),
    "input": (osc(control_delta=False), "input_type absolute, lift takes input_type delta"),
    "controller": (osc(type="JOINT_VELOCITY"), "JOINT_VELOCITY, lift takes controller OSC_POSE"),
    "scale": (osc(output_max=0.1), "output_max 0.1, lift takes output_max (0.05, 0.05"),
    "range": (osc(input_max=2), "input_max 2, lift takes input_max 1"),
    "impedance": (osc(impedance_mode="variable"), "variable, lift takes impedance_mode fixed"),
    "stiffness": (osc(kp=300), "kp 300, lift takes kp 150"),
    "gripper": ({"gripper_types": ["Robotiq85Gripper"]}, "lift takes gripper PandaGripper"),
}


def with_kwargs(elsewhere, kwargs, name="Lift"):
    env_args = {"env_name": name, "type": 1, "env_kwargs": kwargs}
    elsewhere.update_attributes({"env_args": env_args})
    return elsewhere


@pytest.mark.parametrize("kind", OTHERS)
def test_require_fit_refuses_another_convention(elsewhere, kind):
    kwargs, said = OTHERS[kind]
    with pytest.raises(StoreError, match="actions are of") as error:
        require_fit(with_kwargs(elsewhere, kwargs), TASKS["lift"])
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert [finding.wrong for finding in check_meaning(elsewhere, TASKS["lift"])] == [True, False]


@pytest.mark.filterwarnings("ignore::reconverge.datasets.store.StoreVersionWarning")
def test_require_fit_takes_the_tasks_own_convention(elsewhere):
    scale = [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]
    kwargs = osc(output_max=scale, output_min=[-x for x in scale], impedance_mode="fixed")
    require_fit(
        with_kwargs(elsewhere, {**kwargs, "robots": ["Panda"], "control_freq": 20.0}), TASKS["lift"]
    )


def test_convention_of_the_suite_is_the_simulators(simulator_of):
    """What `misfit` compares with is what the simulator does."""
    simulator = simulator_of(TASKS["lift"])
    found, wanted = simulator.fingerprint, SUITES["robosuite"].convention
    assert (found["robot"], found["controller"]) == (wanted["robot"], wanted["controller"])
    assert tuple(found["action_scale"]) == wanted["output_max"]
    assert found["stiffness"] == [wanted["kp"]] * 6
    made = convention(make_env_args({"simulator": found}))
    assert misfit({"env_args": make_env_args({"simulator": found})}, TASKS["lift"]) == ""
    assert {"robot", "controller", "input_type", "control_hz", "output_min"} <= made.keys()


def test_misfit_reads_a_recorded_convention_and_frames_a_second():
    assert "input_type absolute" in misfit(
        {"convention": {"input_type": "absolute"}}, TASKS["lift"]
    )
    assert "control_hz 30, lift takes control_hz 20" in misfit({"fps": 30}, TASKS["lift"])
    assert misfit({"fps": 20, "convention": "mine", "env_args": None}, TASKS["lift"]) == ""


def test_require_fit_refuses_another_environment_under_the_tasks_name(simulator_of, tmp_path):
    store = store_from_elsewhere(simulator_of(TASKS["lift"]), tmp_path / "lift.zarr")
    with_kwargs(store, {}, "Wipe")
    assert task_of(store) is None
    with pytest.raises(StoreError, match="environment 'Wipe', lift wants 'Lift'"):
        require_fit(store, TASKS["lift"])


def test_require_fit_warns_of_observations_in_other_units(elsewhere, tmp_path):
    sizes = TASKS["lift"].sizes
    store = DemonstrationStore.create(tmp_path / "lift.zarr", sizes, 7, {"input_frame": "world"})
    for seen in elsewhere.episodes():
        millimetres = {key: seen.observations[key] for key in sizes}
        millimetres["object"] = 1000 * millimetres["object"]
        store.append(Episode(millimetres, seen.action, seen.reward, seen.success))
    said = r"beyond lift's bounds in 5% .* object\[0\] is in .*, its bounds are .*lift's units"
    with pytest.warns(StoreWarning, match=said):
        require_fit(store, TASKS["lift"])


def test_require_fit_is_silent_about_observations_within_bounds(elsewhere):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        require_fit(elsewhere, TASKS["lift"])
    assert all("beyond" not in str(each.message) for each in told)


@pytest.mark.parametrize(("largest", "refused"), [(1.0000009, False), (1.000002, True), (-3, True)])
def test_require_fit_refuses_actions_beyond_their_range(tmp_path, largest, refused):
    task = TASKS["lift"]
    store = DemonstrationStore.create(tmp_path / "lift.zarr", task.sizes, 7, {})
    rows = {key: np.zeros((5, size), np.float32) for key, size in task.sizes.items()}
    ended = np.arange(5) == 4
    for last in (0, largest):
        action = np.zeros((5, 7), np.float32)
        action[3, 2] = last
        store.append(Episode(rows, action, ended.astype(np.float32), ended))
    if not refused:
        require_fit(store, task)
        return
    said = (
        r"1 of 10 actions, in 1 of 2 episodes, are beyond .* action\[2\] = .* in episode 1, step 3"
    )
    with pytest.raises(StoreError, match=said):
        require_fit(store, task)
