"""The scripted experts, against robosuite's own success condition on seeds that no tuning saw."""

import os
from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from reconverge.envs.catalog import TASKS
from reconverge.envs.suites.metaworld.experts import MetaworldExpert
from reconverge.envs.suites.metaworld.fifty import OWN_EXPERTS
from reconverge.envs.suites.metaworld.simulator import MetaworldSimulator
from reconverge.envs.suites.robosuite.door import handle_frame, turn_to
from reconverge.envs.suites.robosuite.motion import axes, wrap
from reconverge.envs.suites.robosuite.simulator import RobosuiteSimulator

SEEDS = range(4_000_000, 4_000_010)
STEPS = {"lift": 40}  # an expert that had to try twice takes longer; of other tasks 150
TASK_NAMES = [name for name, task in TASKS.items() if task.suite == "robosuite"]


@cache
def simulator(name: str) -> RobosuiteSimulator:
    return RobosuiteSimulator(TASKS[name])


def solve(
    name: str,
    seed: int,
    sigma: float = 0.0,
    steps: int = 400,
    disturb: Mapping[int, np.ndarray] | None = None,
):
    """Steps to success or None, with the observations and actions on the way."""
    sim, expert = simulator(name), TASKS[name].expert(simulator(name).landmarks)
    rng = np.random.default_rng(seed)
    episode = sim.new_episode()
    sim.reset(episode, seed)
    observations, actions = [], []
    for step in range(steps):
        observations.append(sim.observe([episode])[0])
        actions.append(expert.act(sim.task.split(observations[-1])))
        executed = actions[-1].copy()
        executed[:6] += rng.normal(0.0, sigma, 6)
        executed = (disturb or {}).get(step, executed)
        sim.step(episode, np.clip(executed, -1.0, 1.0))
        if sim.success(episode):
            return step + 1, np.array(observations), np.array(actions)
    return None, np.array(observations), np.array(actions)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_expert_solves_unseen_starts_at_the_first_try(name):
    results = [solve(name, seed, steps=STEPS.get(name, 150))[0] for seed in SEEDS]
    assert sum(result is not None for result in results) >= 9, results


@pytest.mark.parametrize("name", TASK_NAMES)
def test_expert_solves_with_noise_in_the_executed_action(name):
    results = [solve(name, seed, sigma=0.2)[0] for seed in SEEDS[:5]]
    assert sum(result is not None for result in results) >= 4, results


@pytest.mark.parametrize("name", TASK_NAMES)
def test_expert_grasps_again_after_a_drop(name):
    """The fingers are opened for 12 steps in the middle of the way with the object in them; soon
    for the cereal, which lies too wide for the fingers once it has fallen over.
    """
    length, _, actions = solve(name, SEEDS[0])
    grasp = int(np.flatnonzero(actions[:, 6] > 0.0)[0])
    drop_at = grasp + (6 if name in ("lift", "cereal") else 12)
    drop = {step: np.array([0.0] * 6 + [-1.0]) for step in range(drop_at, drop_at + 12)}
    again, observations, _ = solve(name, SEEDS[0], disturb=drop)
    opening = observations[drop_at:, -2] - observations[drop_at:, -1]
    assert opening.max() > 0.07
    assert again is not None
    assert again > length


@pytest.mark.parametrize("name", TASK_NAMES)
def test_expert_acts_within_bounds_by_the_observation_alone(name):
    """Asked in another order, a fresh expert and a used one give the same actions."""
    _, observations, actions = solve(name, SEEDS[0], sigma=0.1)
    assert actions.shape == (len(observations), 7)
    assert actions.dtype == np.float64
    assert np.abs(actions).max() <= 1.0
    expert = TASKS[name].expert(simulator(name).landmarks)
    order = np.random.default_rng(0).permutation(len(observations))
    shuffled = np.array([expert.act(TASKS[name].split(observations[i])) for i in order])
    np.testing.assert_array_equal(shuffled, actions[order])


@pytest.mark.parametrize("name", ["milk", "bread", "cereal"])
def test_landmarks_of_a_box_are_its_sizes(name):
    """The half sizes in its frame, from the vertices of its mesh, and its height on the floor."""
    sim = simulator(name)
    episode = sim.new_episode()
    sim.reset(episode, SEEDS[0])
    shape = sim.model.geom(f"{name.capitalize()}_g0")
    mesh = sim.model.mesh(shape.dataid[0])
    first = mesh.vertadr[0]
    vertices = sim.model.mesh_vert[first : first + mesh.vertnum[0]]
    turned = vertices @ episode.data.geom(shape.id).xmat.reshape(3, 3).T
    body = episode.data.body(f"{name.capitalize()}_main").xmat.reshape(3, 3)
    corners = turned @ body + shape.pos
    half = (corners.max(axis=0) - corners.min(axis=0)) / 2.0
    np.testing.assert_allclose(sim.landmarks["half"], half, atol=2e-4)
    middle = (corners.max(axis=0) + corners.min(axis=0)) / 2.0
    np.testing.assert_allclose(sim.landmarks["middle"], middle, atol=2e-4)


def test_stack_expert_keeps_its_fingers_off_the_large_cube():
    """The cubes as near as robosuite places them: the fingers pass beside the large one."""
    expert = TASKS["stack"].expert(simulator("stack").landmarks)
    for angle in np.radians(range(10, 180, 20)):
        toward = 0.065 * np.array([np.cos(angle), np.sin(angle), 0.0])
        small, large = np.array([0.0, 0.0, 0.82]), np.array([0.0, 0.0, 0.825]) + toward
        upright, hand = np.array([0.0, 0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0, 0.0])
        seen = {
            "object": np.concatenate([small, upright, large, upright, large - small, [0.0] * 6]),
            "robot0_eef_pos": small + np.array([0.0, 0.0, 0.1]),
            "robot0_eef_quat": hand,
            "robot0_gripper_qpos": np.array([0.04, -0.04]),
        }
        turn = expert.act(seen)[5]
        along = abs(np.cos(angle)) < 0.5**0.5  # the large cube is along y, where fingers close
        assert (abs(turn) > 0.5) == along, angle


def test_door_expert_sees_how_door_and_handle_stand():
    """Its axes are the handle's, and the turn that it asks for brings the hand there."""
    sim, rng = simulator("door"), np.random.default_rng(0)
    expert, episode = TASKS["door"].expert(sim.landmarks), sim.new_episode()
    for seed in SEEDS:
        start = sim.start(seed)
        start[[sim.model.joint(name).qposadr[0] for name in TASKS["door"].scene.joints]] = (
            rng.uniform((0.0, -1.5), (0.4, 1.5))
        )
        episode.reset(start)
        seen = TASKS["door"].split(sim.observe([episode])[0])
        things = seen["object"].tolist()
        yaw = expert.yaw(things[:3], things[3:6], things[13])
        frame = handle_frame(yaw, things[13])
        x, y, z = episode.data.body("Door_latch").xmat.reshape(3, 3).T
        np.testing.assert_allclose(frame, [-x, -z, -y], atol=1e-5)
        hand = axes(seen["robot0_eef_quat"].tolist())
        turned = Rotation.from_rotvec(turn_to(hand, frame)).apply(hand)
        np.testing.assert_allclose(turned, [-x, z, y], atol=1e-5)


def test_landmarks_agree_with_the_simulated_scene():
    sim = simulator("square")
    episode = sim.new_episode()
    sim.reset(episode, SEEDS[0])
    body, handle = episode.data.body("SquareNut_main"), episode.data.site("SquareNut_handle_site")
    offset = body.xmat.reshape(3, 3).T @ (handle.xpos - body.xpos)
    np.testing.assert_allclose(sim.landmarks["handle"], offset, atol=1e-9)
    assert sim.landmarks["peg_top"][2] > sim.landmarks["table"]
    can = simulator("can")
    other = can.new_episode()
    can.reset(other, SEEDS[0])
    resting = other.data.body("Can_main").xpos[2] - 0.5 * can.landmarks["height"]
    assert resting == pytest.approx(can.landmarks["floor"], abs=2e-3)


@pytest.mark.parametrize(
    ("angle", "period", "nearest"), [(3.0, 2.0, -1.0), (-0.4, 1.0, -0.4), (7.2, 2.0, -0.8)]
)
def test_wrap_is_the_nearest_to_zero(angle, period, nearest):
    assert abs(wrap(angle, period) - nearest) % period == pytest.approx(0.0, abs=1e-12)
    assert abs(wrap(angle, period)) <= period / 2.0


@pytest.mark.parametrize("name", OWN_EXPERTS)
def test_own_experts_solve_more_than_metaworlds(name):
    """Ours solves at least nine tenths of unseen starts, and with ALL_TASKS=1 more than
    metaworld's, whose failures take long.
    """
    simulator = MetaworldSimulator(TASKS[name])
    episode = simulator.new_episode()

    def solved(expert, seed) -> bool:
        simulator.reset(episode, seed)
        for _ in range(TASKS[name].max_steps):
            action = expert.act(TASKS[name].split(simulator.observe([episode])[0]))
            simulator.step(episode, action)
            if simulator.success(episode):
                return True
        return False

    ours, stock = TASKS[name].expert({}), MetaworldExpert(f"{name}-v3", {})
    few = not os.environ.get("ALL_TASKS")
    seeds = range(4_000_000, 4_000_010 if few else 4_000_020)
    solutions = sum(solved(ours, seed) for seed in seeds)
    assert solutions >= 0.9 * len(seeds)
    assert few or sum(solved(stock, seed) for seed in seeds) < solutions


def test_metaworlds_experts_act_on_its_observation_alone(simulator_of):
    """Features of pictures may come after it, where its policies look for the goal."""
    task = TASKS["push"]
    simulator = simulator_of(task)
    episode = simulator.new_episode()
    simulator.reset(episode, 0)
    told = task.split(simulator.observe([episode])[0])
    expected = task.expert(simulator.landmarks).act(told)
    seen = {**told, "features": np.ones(4, np.float32)}
    np.testing.assert_array_equal(task.expert(simulator.landmarks).act(seen), expected)
