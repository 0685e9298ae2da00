"""The scripted experts of LIBERO's tasks, against its own goals on seeds that no tuning saw."""

import numpy as np
import pytest

from reconverge.envs.catalog import TASKS, task_sequence
from reconverge.envs.rollout import rollout
from reconverge.envs.suites.libero.installation import installed
from reconverge.envs.task import require_experts
from reconverge.envs.vector import VectorEnv
from reconverge.errors import ReconvergeError
from reconverge.policy.demonstrations.scripted import NoisyExpert
from reconverge.tools import collect
from support.tiny_run import call

pytestmark = pytest.mark.skipif(not installed(), reason="wants pip install -e '.[libero]'")

SEEDS = range(4_100_000, 4_100_006)
NAMES = ("libero_object_9", "libero_spatial_4")  # a carton; a bowl in a drawer


@pytest.fixture(scope="module", params=NAMES)
def env(request):
    with VectorEnv(TASKS[request.param], len(SEEDS)) as env:
        yield env


def test_expert_solves_unseen_starts_with_noise_in_the_executed_action(env):
    results = rollout(env, NoisyExpert(env, 0.1), SEEDS)
    assert sum(result.success and result.steps < 300 for result in results) >= 5, results


def test_expert_acts_within_bounds_by_the_observation_alone(env):
    """Asked in another order, a fresh expert and a used one give the same actions."""
    actor = NoisyExpert(env, 0.1)
    rollout(env, actor, SEEDS[:1])
    recording = actor.recordings[0]
    actions = np.array(recording.actions)
    assert actions.shape == (len(recording.observations), 7)
    assert np.abs(actions).max() <= 1.0
    expert = env.task.expert(env.simulator.landmarks)
    order = np.random.default_rng(0).permutation(len(actions))
    seen = [env.task.split(recording.observations[i]) for i in order]
    np.testing.assert_array_equal([expert.act(each) for each in seen], actions[order])


def test_landmarks_are_the_sizes_of_what_rests_on_another(env):
    """By them, the lowest point of a thing at rest is the top of what it stands on."""
    env.reset([0], [SEEDS[0]])
    still = np.array([[0.0] * 6 + [-1.0]])
    for _ in range(20):
        env.step([0], still)
    name, landmarks = env.task.scene.objects[1], env.simulator.landmarks
    pose = env.task.split(env.observe([0])[0])[f"{name}_pos"]
    bottom = pose[2] + landmarks[f"{name}_middle"][2] - landmarks[f"{name}_half"][2]
    surface = 0.0 if name.startswith("basket") else 0.9
    assert bottom == pytest.approx(surface, abs=2e-3)


def test_every_task_of_four_suites_has_an_expert():
    suites = ["libero_object", "libero_spatial", "libero_goal", "libero_10"]
    require_experts(task_sequence(suites))


def test_all_tasks_without_an_expert_are_named_and_what_is_left(tmp_path, monkeypatch, capsys):
    """Before the first is recorded, in a line to be typed again."""
    arguments = ["env=libero_goal_0,libero_90_18,libero_90_6", f"path={tmp_path}"]
    assert call(collect.main, arguments, monkeypatch) == 2
    said = capsys.readouterr().err
    assert "libero_90_18, libero_90_6 have no scripted expert" in said
    assert "demonstrations/<task>.zarr" in said
    assert "or leave them out: env=libero_goal_0" in said
    assert list(tmp_path.iterdir()) == []
    tasks = task_sequence(["libero_goal_0", "libero_90_6"])
    with pytest.raises(ReconvergeError, match=r"libero_90_6 has .* it out: env=libero_goal_0$"):
        require_experts(tasks, tasks)
    with pytest.raises(ReconvergeError, match=r"libero_90_6 has .*bring .*--help\)$"):
        require_experts([TASKS["libero_90_6"]])
