"""CONTRIBUTING's promise: a new method, network or task is one source, one table row and one yaml."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_run import call, make_demonstrations, options
from torch import nn

from envs import robosuite_tasks, vector
from envs.evaluator import Evaluator
from envs.experts import EXPERTS
from envs.tasks import TASKS, task_sequence
from policy import train
from policy.methods import METHODS
from policy.methods.base import Learner
from policy.networks import NETWORKS, build_network


class Bilinear(nn.Module):
    """A new network: one linear layer."""

    def __init__(self, *, sample_steps, sample_size, condition_size, scale=1.0):
        super().__init__()
        self.scale = scale
        self.layer = nn.Linear(sample_steps * sample_size + condition_size, sample_steps * sample_size)

    def forward(self, x, k, condition):
        return self.scale * self.layer(torch.cat([x.flatten(1), condition], dim=1)).view_as(x)


class Alternating(Learner):
    """A new method: every second batch is left out."""

    skipped = 0

    def update(self, batch):
        if self._optimization.update % 2 == 0 and not getattr(self, "_rested", False):
            self._rested = True
            Alternating.skipped += 1
            return {"loss": 0.0}
        self._rested = False
        return super().update(batch)


def alternating(parts):
    return Alternating(parts, replay=False, trust_region=False)


@pytest.fixture
def added(tmp_path, monkeypatch):
    """One table row each, and one yaml each in a folder of the user's."""
    monkeypatch.setitem(METHODS, "alternating", alternating)
    monkeypatch.setitem(NETWORKS, "bilinear", Bilinear)
    monkeypatch.setitem(TASKS, "lift_fast", replace(TASKS["lift"], name="lift_fast", horizon=90))
    monkeypatch.setattr(Alternating, "skipped", 0)
    for group, text in (("method", "name: alternating"), ("network", "name: bilinear\nscale: 1.0")):
        (tmp_path / "mine" / group).mkdir(parents=True)
        (tmp_path / "mine" / group / f"{text.split()[1]}.yaml").write_text(text + "\n")
    monkeypatch.chdir(tmp_path)
    return f"hydra.searchpath=[file://{tmp_path / 'mine'}]"


def without_mlp(arguments):
    return [a for a in arguments if not a.startswith("network.")]


def test_a_new_method_network_and_task_work_in_a_run(added, tmp_path, monkeypatch, capsys):
    demonstrations = make_demonstrations(tmp_path / "demonstrations", ["lift_fast"])
    arguments = without_mlp(options(demonstrations, tmp_path / "run"))
    arguments += [added, "method=alternating", "network=bilinear", "network.scale=0.5", "env=lift_fast"]
    assert call(train.main, arguments, monkeypatch) == 0, capsys.readouterr().err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["method"], summary["network"], summary["tasks"]) == ("alternating", "bilinear", ["lift_fast"])
    assert summary["parameters"] < 20_000
    assert Alternating.skipped > 0
    manifest = json.loads((tmp_path / "run" / "checkpoints" / "0_lift_fast" / "manifest.json").read_text())
    assert manifest["policy"]["network"] == {"name": "bilinear", "scale": 0.5}


def test_options_of_a_new_network_are_checked(added, monkeypatch, capsys):
    assert call(train.main, [added, "network=bilinear", "network.scael=2"], monkeypatch) == 2
    assert "error: unknown option 'network.scael'" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"unknown option of network 'bilinear' 'scael'.*did you mean 'scale'"):
        build_network("bilinear", sample_steps=1, sample_size=2, condition_size=3, scael=1)


def test_without_its_row_the_yaml_alone_is_refused(added, monkeypatch, capsys):
    monkeypatch.delitem(METHODS, "alternating")
    assert call(train.main, [added, "method=alternating"], monkeypatch) == 2
    assert "unknown method 'alternating'" in capsys.readouterr().err


def test_the_names_are_offered_like_any_other(added, monkeypatch, capsys):
    assert call(train.main, ["env=lift_fst"], monkeypatch) == 2
    assert "did you mean 'lift_fast'" in capsys.readouterr().err


class Point:
    """A new suite: a point that actions move; success is at the origin. No physics engine at all."""

    fingerprint, versions, landmarks = "point", {"point": "1"}, {}

    def __init__(self, task):
        self.task = task

    def new_episode(self):
        return type("Episode", (), {"x": np.zeros(2), "diverged": False, "success": False})()

    def reset(self, episode, seed):
        episode.x = np.random.default_rng(seed).uniform(-1, 1, 2)

    def step(self, episode, action):
        episode.x = episode.x + 0.2 * action
        episode.success = bool(np.abs(episode.x).max() < 0.1)

    def observe(self, episodes):
        return np.stack([e.x for e in episodes]).astype(np.float32)


class Homing:
    def __init__(self, landmarks):
        pass

    def act(self, observation):
        return np.clip(-5 * observation["object"], -1, 1)


def test_a_new_robosuite_task_is_one_object(monkeypatch):
    monkeypatch.setitem(robosuite_tasks.OBJECTS, "PickPlaceMilk", "Milk")
    milk = replace(TASKS["can"], name="milk", simulator="PickPlaceMilk")
    simulator = robosuite_tasks.RobosuiteSimulator(milk)
    assert simulator.landmarks == {}
    episode = simulator.new_episode()
    simulator.reset(episode, 3)
    start = simulator.observe([episode])[0]
    for _ in range(5):
        simulator.step(episode, np.array([0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0]))
    seen = milk.split(simulator.observe([episode])[0])
    assert seen["robot0_eef_pos"][2] < milk.split(start)["robot0_eef_pos"][2] - 0.02
    assert not episode.success


def test_a_new_suite_is_one_more_row(tmp_path, monkeypatch):
    """Task, suite and expert of another world go through collection, training and evaluation unchanged."""
    monkeypatch.setitem(vector.SUITES, "point", Point)
    monkeypatch.setitem(EXPERTS, "homing", Homing)
    square = ((-1.0, -1.0), (1.0, 1.0))
    for name in ("near", "far"):
        row = replace(
            TASKS["lift"], name=name, suite="point", simulator="Point", expert="homing", horizon=30,
            observations={"object": square}, action_size=2,
        )  # fmt: skip
        monkeypatch.setitem(TASKS, name, row)
    monkeypatch.chdir(tmp_path)
    make_demonstrations(tmp_path / "demonstrations", ["near", "far"])
    arguments = options(tmp_path / "demonstrations", tmp_path / "run", "env=near,far", "evaluation.n_rollouts=3")
    assert call(train.main, arguments, monkeypatch) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["tasks"] == ["near", "far"]
    assert summary["success"][0][1] is None
    actor = type("Still", (), {
        "observation_steps": 1, "begin": lambda self, slot, seed: None,
        "act": lambda self, slots, history: np.clip(-5 * history, -1, 1),
    })()  # fmt: skip
    results = Evaluator(task_sequence(["near"]), 2, 1).rollouts(actor, 0, [1, 2, 3])
    assert [result.success for result in results] == [True] * 3
