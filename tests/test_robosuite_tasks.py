import copy
from itertools import product

import mujoco
import numpy as np
import pytest

from envs.experts import EXPERTS
from envs.osc import Episode
from envs.robosuite_tasks import APART, OBJECTS
from envs.tasks import TASKS

WIDTH = {0: (7, 6), 2: (1, 1), 3: (1, 1)}  # numbers in qpos and qvel of a free, slide and hinge joint


@pytest.fixture
def task(robosuite_task):
    """Tasks of robosuite only."""
    return robosuite_task


def joints(model, names):
    """Indices into qpos and qvel of the named joints of a model."""
    found = [model.joint(name) for name in names]
    qpos = [j.qposadr[0] + i for j in found for i in range(WIDTH[int(j.type[0])][0])]
    qvel = [j.dofadr[0] + i for j in found for i in range(WIDTH[int(j.type[0])][1])]
    return qpos, qvel


def kept_joints(model, reference):
    names = [model.joint(j).name for j in range(model.njnt)]
    return joints(model, names), joints(reference.sim.model._model, names)


def reset_reference(reference, seed):
    """robosuite's own reset, all of its random numbers from `seed`."""
    initializer = reference.placement_initializer
    reference.rng = np.random.default_rng(seed)
    for sampler in getattr(initializer, "samplers", {"": initializer}).values():
        sampler.rng = reference.rng
    reference.reset()


def play(simulator, seed):
    """States of an expert's episode, until it succeeds, with the action taken in each."""
    task = simulator.task
    expert, episode = EXPERTS[task.expert](simulator.landmarks), simulator.new_episode()
    simulator.reset(episode, seed)
    for _ in range(task.horizon):
        action = expert.act(task.split(simulator.observe([episode])[0]))
        yield episode, action
        if simulator.success(episode):
            return
        simulator.step(episode, action)


# Models.


def test_welding_leaves_the_robot_and_one_object_to_move(simulator_of, task):
    assert simulator_of(task).model.nv == 9 + 6


EXACT = (
    "body_mass", "body_inertia", "body_ipos", "body_iquat", "body_quat", "geom_type", "geom_size", "geom_pos",
    "geom_quat", "geom_friction", "geom_solref", "geom_solimp", "geom_contype", "geom_conaffinity", "geom_bodyid",
    "site_pos", "site_quat", "actuator_gainprm", "actuator_biasprm", "actuator_ctrlrange", "actuator_gear",
)  # fmt: skip


@pytest.mark.parametrize("constants", EXACT)
def test_welding_changes_no_constant(simulator_of, reference_of, task, constants):
    model, full = simulator_of(task).model, reference_of(task).sim.model._model
    np.testing.assert_array_equal(getattr(model, constants), getattr(full, constants))


def test_welding_moves_hidden_objects_only(simulator_of, reference_of, task):
    reference = reference_of(task)
    reference.reset()
    model, full = simulator_of(task).model, reference.sim.model._model
    assert [model.body(i).name for i in range(model.nbody)] == [full.body(i).name for i in range(full.nbody)]
    moved = np.flatnonzero((model.body_pos != full.body_pos).any(axis=1))
    free = [i for i in range(full.nbody) if full.body_jntnum[i] and full.jnt_type[full.body_jntadr[i]] == 0]
    assert set(moved) <= set(free) - {model.body(f"{OBJECTS[task.simulator]}_main").id}


@pytest.mark.parametrize("pair", APART)
def test_links_that_are_not_tested_for_contact_cannot_touch(simulator_of, pair):
    """Their least distance over all positions of the joints between them, and a little beyond the limits."""
    model = simulator_of(TASKS["lift"]).model
    data, segment = mujoco.MjData(model), np.zeros(6)
    geoms = [model.geom(f"robot0_{link}_collision").id for link in pair]
    joints = [model.joint(f"robot0_joint{i}") for i in range(int(pair[0][-1]) + 1, int(pair[1][-1]) + 1)]
    steps = 31 if len(joints) == 2 else 500
    distances = []
    for positions in product(*(np.linspace(j.range[0] - 0.1, j.range[1] + 0.1, steps) for j in joints)):
        for joint, position in zip(joints, positions, strict=True):
            data.qpos[joint.qposadr[0]] = position
        mujoco.mj_kinematics(model, data)
        distances.append(mujoco.mj_geomDistance(model, data, *geoms, 1.0, segment))
    assert min(distances) > 9e-4
    excluded = [(model.body(s >> 16).name, model.body(s & 0xFFFF).name) for s in model.exclude_signature.tolist()]
    assert tuple(f"robot0_{link}" for link in pair) in excluded


def test_leaving_out_what_decides_nothing_does_not_change_a_bit(simulator_of, reference_of):
    """Lift hides no object: the same model but for contact tests and sensors."""
    simulator, full = simulator_of(TASKS["lift"]), reference_of(TASKS["lift"]).sim.model._model
    assert simulator.model.nexclude == full.nexclude + len(APART)
    for seed in range(3):
        lean, whole = simulator.new_episode(), Episode(full)
        lean.reset(simulator.initial_qpos(seed))
        whole.reset(simulator.initial_qpos(seed))
        for _, action in play(simulator, seed):
            lean.step(simulator.controller, action)
            whole.step(simulator.controller, action)
            np.testing.assert_array_equal(lean.data.qpos, whole.data.qpos)
            np.testing.assert_array_equal(lean.data.qvel, whole.data.qvel)


@pytest.mark.parametrize("name", ["can", "square"])
def test_welding_hidden_objects_does_not_change_the_motion(simulator_of, reference_of, name):
    """Contact-rich episodes; contact forces solved to rounding, as the solver's tolerance depends on all bodies.

    Where two boxes are parallel, rounding decides which of their corners touch: the rest of the difference.
    """
    simulator, reference = simulator_of(TASKS[name]), reference_of(TASKS[name])
    models = copy.copy(simulator.model), copy.copy(reference.sim.model._model)
    for model in models:
        model.opt.tolerance, model.opt.ls_tolerance = 1e-16, 1e-6
    (qpos, qvel), (full_qpos, full_qvel) = kept_joints(simulator.model, reference)
    geoms = [simulator.model.geom(i).name for i in range(simulator.model.ngeom)]
    is_gripper = [geom.startswith("gripper0") for geom in geoms]
    reference.reset()
    for seed in range(3):
        start = reference.sim.data.qpos.copy()
        start[full_qpos] = simulator.initial_qpos(seed)[qpos]
        welded, free = Episode(models[0]), Episode(models[1])
        welded.reset(simulator.initial_qpos(seed))
        free.reset(start)
        apart, touching = [], []
        for _, action in play(simulator, seed):
            free.data.qpos[full_qpos] = welded.data.qpos[qpos]
            free.data.qvel[full_qvel] = welded.data.qvel[qvel]
            free.data.qacc_warmstart[full_qvel] = welded.data.qacc_warmstart[qvel]
            free.step(simulator.controller, action)
            welded.step(simulator.controller, action)
            difference = np.abs(free.data.qpos[full_qpos] - welded.data.qpos[qpos]).max()
            in_contact = any(is_gripper[geom] for geom in welded.data.contact.geom.flat)
            (touching if in_contact else apart).append(difference)
        assert min(len(apart), len(touching)) > 15
        assert np.quantile(apart, 0.9) < 1e-12
        assert np.quantile(touching, 0.1) < 1e-12
        assert max(apart + touching) < 1e-4


# Start states, observations and success.


def test_start_states_are_those_of_robosuites_reset(simulator_of, reference_of, task):
    simulator, reference = simulator_of(task), reference_of(task)
    (qpos, _), (full_qpos, _) = kept_joints(simulator.model, reference)
    for seed in (0, 1, 12345):
        reset_reference(reference, seed)
        found = simulator.initial_qpos(seed)[qpos]
        np.testing.assert_allclose(found, reference.sim.data.qpos[full_qpos], rtol=0, atol=1e-12)


def test_observations_are_robosuites(simulator_of, reference_of, task):
    simulator, reference = simulator_of(task), reference_of(task)
    (qpos, qvel), (full_qpos, full_qvel) = kept_joints(simulator.model, reference)
    reset_reference(reference, 0)
    compared = 0
    for i, (episode, _) in enumerate(play(simulator, 0)):
        if i % 10:
            continue
        mujoco.mj_kinematics(episode.model, episode.data)
        reference.sim.data.qpos[full_qpos] = episode.data.qpos[qpos]
        reference.sim.data.qvel[full_qvel] = episode.data.qvel[qvel]
        reference.sim.forward()
        reference._get_observations(force_update=True)  # poses in the gripper's frame lag by one reading
        expected = reference._get_observations(force_update=True)
        expected["object"] = expected["object-state"]
        for key, found in task.split(simulator.observe([episode])[0]).items():
            np.testing.assert_allclose(
                same_sign(key, task, found), same_sign(key, task, expected[key]), rtol=0, atol=1e-6
            )
        compared += 1
    assert compared >= 3


def same_sign(key, task, value):
    """`value` with the object's quaternion relative to the gripper in the convention w >= 0."""
    value = np.array(value, dtype=np.float64)
    if key == "object" and task.name != "lift" and value[6] < 0:
        value[3:7] *= -1.0
    return value


def test_observations_stay_within_the_declared_bounds(simulator_of, task):
    """Clipping at a bound would hide something from the policy."""
    for episode, _ in play(simulator_of(task), 5):
        flat = simulator_of(task).observe([episode])[0]
        assert flat.dtype == np.float32
        assert (flat[:3] > task.low[:3]).all()
        assert (flat[:3] < task.high[:3]).all()


def test_success_is_robosuites(simulator_of, reference_of, task):
    simulator, reference = simulator_of(task), reference_of(task)
    (qpos, _), (full_qpos, _) = kept_joints(simulator.model, reference)
    reset_reference(reference, 0)
    seen = []
    for episode, _ in play(simulator, 2):
        mujoco.mj_forward(episode.model, episode.data)
        reference.sim.data.qpos[full_qpos] = episode.data.qpos[qpos]
        reference.sim.forward()
        seen.append(simulator.success(episode))
        assert seen[-1] == bool(reference._check_success())
    assert seen[-1]
    assert not any(seen[:-1])


def test_an_experts_episodes_end_as_in_robosuite(simulator_of, reference_of, task):
    """The same actions from the same start: verdict and step of 100 whole episodes, contact included."""
    simulator, reference, agreed = simulator_of(task), reference_of(task), 0
    for seed in range(100):
        actions = [action for _, action in play(simulator, seed)][:-1]
        reset_reference(reference, seed)
        ended = [reference.step(action) and bool(reference._check_success()) for action in actions]
        agreed += ended[-1] and not any(ended[:-1])
    assert agreed >= 99


def test_success_is_judged_on_the_episode_given(simulator_of):
    """Also when another, dropped episode lay at the same address."""
    simulator = simulator_of(TASKS["lift"])
    high = simulator.initial_qpos(0)
    high[simulator.model.joint("cube_joint0").qposadr[0] + 2] += 0.5
    for _ in range(3):
        for qpos, wanted in ((high, True), (simulator.initial_qpos(0), False)):
            episode = simulator.new_episode()
            episode.reset(qpos)
            assert simulator.success(episode) is wanted
            del episode
