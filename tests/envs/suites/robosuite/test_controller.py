import mujoco
import numpy as np
import pytest
from robosuite.controllers import load_composite_controller_config, load_part_controller_config

from reconverge.envs.catalog import TASKS
from reconverge.envs.suites import in_frame
from reconverge.envs.suites.robosuite.controller import Episode, read_controller
from reconverge.envs.suites.robosuite.model import make_robosuite
from support.physics import reset_reference

STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@pytest.fixture
def task(robosuite_task):
    """Tasks of robosuite only."""
    return robosuite_task


def follow(reference):
    """A native episode in the state of a robosuite environment, controller's memory included."""
    model, data = reference.sim.model._model, reference.sim.data._data
    robot = reference.robots[0]
    episode = Episode(model)
    state = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, state, STATE)
    mujoco.mj_setState(model, episode.data, state, STATE)
    episode.initial_joints[:] = robot.part_controllers["right"].initial_joint
    episode.gripper_command[:] = robot.gripper["right"].current_action
    return episode


def step_both(reference, episode, action):
    reference.step(action)
    episode.step(read_controller(reference), action)


def difference(reference, episode):
    data = reference.sim.data._data
    return max(
        np.abs(data.qpos - episode.data.qpos).max(), np.abs(data.qvel - episode.data.qvel).max()
    )


def random_actions(seed, n):
    return np.random.default_rng(seed).uniform(
        -1.2, 1.2, (n, 7)
    )  # also out of bounds, where both clip


def test_step_from_the_middle_of_an_episode_is_robosuites(reference_of, task):
    reference = reference_of(task)
    reference.reset()
    for i, action in enumerate(random_actions(1, 30)):
        if i % 3 == 0:
            reference.step(action)
            continue
        episode = follow(reference)
        before = reference.sim.data.qpos.copy()
        step_both(reference, episode, action)
        assert difference(reference, episode) < 1e-8
        assert np.abs(reference.sim.data.qpos - before).max() > 1e-3


def test_step_is_robosuites_fifty_times_in_free_space(reference_of, task):
    reference = reference_of(task)
    reference.reset()
    for action in random_actions(2, 5):
        reference.step(action)
    episode = follow(reference)
    for action in random_actions(3, 50):
        step_both(reference, episode, action)
    assert difference(reference, episode) < 1e-5


def test_step_after_a_reset_is_robosuites(reference_of, task):
    """robosuite's controller uses quantities from before the reset at its first substep."""
    reference = reference_of(task)
    reference.reset()
    episode = follow(reference)
    step_both(reference, episode, random_actions(4, 1)[0])
    assert difference(reference, episode) < 1e-5


def test_step_in_contact_is_robosuites(reference_of, simulator_of, task):
    """Every step of an expert's episode, each from robosuite's state.

    Where two boxes are parallel, rounding decides which of their corners touch, and a step may
    differ by 1e-5, from some starts in more than half of the steps. So of five starts one must
    have a median at rounding; controllers that differ have it from none.
    """
    medians = []
    for seed in range(1, 6):
        medians.append(median_difference_in_contact(reference_of(task), simulator_of(task), seed))
        if medians[-1] < 1e-8:
            return
    raise AssertionError(f"{task.name}: median differences of {medians} from five starts")


def median_difference_in_contact(reference, simulator, seed):
    """The median over the steps in which the gripper holds an object; all stay below 1e-4."""
    task, expert = simulator.task, simulator.task.expert(simulator.landmarks)
    reset_reference(reference, seed)
    reference.step(np.zeros(7))
    in_contact = []
    for _ in range(task.max_steps):
        seen, episode = follow(reference), follow(reference)
        mujoco.mj_forward(seen.model, seen.data)
        action = expert.act(task.split(simulator.observe([seen])[0]))
        step_both(reference, episode, action)
        differences = np.abs(reference.sim.data.qpos - episode.data.qpos).max()
        assert differences < 1e-4
        if holds(reference):
            in_contact.append(differences)
        if reference._check_success():
            break
    assert reference._check_success()
    assert len(in_contact) > 2
    return float(np.median(in_contact))


def holds(reference):
    named = ("objects", "nuts", "cubeA", "cube", "door")
    objects = next(getattr(reference, name) for name in named if hasattr(reference, name))
    objects = objects if isinstance(objects, list) else [objects]
    gripper = reference.robots[0].gripper["right"]
    return any(reference._check_grasp(gripper, kept.contact_geoms) for kept in objects)


def test_read_controller_finds_robosuites_defaults(reference_of, task):
    controller = read_controller(reference_of(task))
    assert controller.substeps == 25
    np.testing.assert_allclose(controller.kp, 150.0)
    np.testing.assert_allclose(controller.kd, 2.0 * np.sqrt(150.0))
    np.testing.assert_allclose(controller.scale, [0.05] * 3 + [0.5] * 3)


TURNED = np.array([0.9, 0.1, -0.3, 0.3]) / np.linalg.norm([0.9, 0.1, -0.3, 0.3])  # (w, x, y, z)


@pytest.fixture(scope="module")
def turned():
    """robosuite's environments in both input frames, on a mount that is turned: there the frames
    differ.
    """
    envs = {}
    for frame in ("base", "world"):
        envs[frame] = make_robosuite(in_frame(TASKS["lift"], frame))
        envs[frame].reset()
        model = envs[frame].sim.model._model
        model.body("robot0_base").quat[:] = TURNED
        envs[frame].sim.forward()
        envs[frame].step(np.zeros(7))  # its first substep uses quantities from before the turn
        assert envs[frame].robots[0].part_controllers["right"].input_ref_frame == frame
    return envs


@pytest.mark.parametrize("frame", ["base", "world"])
def test_step_in_either_input_frame_is_robosuites(turned, frame):
    reference = turned[frame]
    for action in random_actions(5, 20):
        episode = follow(reference)
        step_both(reference, episode, action)
        assert difference(reference, episode) < 1e-8


def test_read_controller_rotates_a_turned_mount(turned):
    base, world = (read_controller(turned[frame]) for frame in ("base", "world"))
    mount = np.zeros(9)
    mujoco.mju_quat2Mat(mount, TURNED)
    np.testing.assert_allclose(base.input_rotation, mount.reshape(3, 3), atol=1e-7)
    np.testing.assert_array_equal(world.input_rotation, np.eye(3))
    episodes = [follow(turned["base"]) for _ in range(3)]
    for action in random_actions(6, 10).clip(-1, 1):
        turned_action = [
            *base.input_rotation @ action[:3],
            *base.input_rotation @ action[3:6],
            action[6],
        ]
        for episode, controller, given in zip(
            episodes,
            (base, world, world),
            (0.5 * action, 0.5 * np.array(turned_action), 0.5 * action),
            strict=True,
        ):
            episode.step(controller, given)
    positions = [episode.data.qpos[:7].copy() for episode in episodes]
    np.testing.assert_allclose(positions[0], positions[1], atol=1e-4)
    assert np.abs(positions[0] - positions[2]).max() > 1e-2


def controller_with(**changes):
    config = load_composite_controller_config(controller="BASIC", robot="Panda")
    config["body_parts"]["right"].update(changes)
    return config


joint_positions = load_part_controller_config(default_controller="JOINT_POSITION")
REFUSED = {
    "other robot": (
        {"robots": "Sawyer", "controller_configs": None},
        "robot 'Panda' only, found 'Sawyer'",
    ),
    "other gripper": ({"gripper_types": "Robotiq85Gripper"}, "gripper 'PandaGripper' only"),
    "position only": (
        {"controller_configs": controller_with(type="OSC_POSITION")},
        "arm controller kind 'POSE' only, found 'POSITION'",
    ),
    "joint positions": (
        {"controller_configs": controller_with(**joint_positions, gripper={"type": "GRIP"})},
        "arm controller 'OperationalSpaceController' only, found 'JointPositionController'",
    ),
    "absolute poses": (
        {"controller_configs": controller_with(input_type="absolute")},
        "input_type 'delta' only",
    ),
    "variable gains": (
        {"controller_configs": controller_with(impedance_mode="variable_kp")},
        "impedance_mode 'fixed' only, found 'variable_kp'",
    ),
    "coupled": (
        {"controller_configs": controller_with(uncouple_pos_ori=False)},
        "uncouple_pos_ori True only",
    ),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_read_controller_refuses_other_controllers_by_name(options, message):
    env = make_robosuite(TASKS["lift"], **options)
    env.reset()
    with pytest.raises(ValueError, match=f"native stepping supports {message}"):
        read_controller(env)
