"""What CONTRIBUTING promises: a new method, network or task is one source file and one row."""

import json
from dataclasses import dataclass, make_dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from reconverge.datasets.checks import check_actions
from reconverge.datasets.store import DemonstrationStore
from reconverge.envs.catalog import TASKS, task_sequence
from reconverge.envs.evaluator import Evaluator
from reconverge.envs.suites import SUITES
from reconverge.envs.suites.robosuite.scene import Scene
from reconverge.envs.suites.robosuite.simulator import RobosuiteSimulator
from reconverge.envs.suites.suite import Suite, advance_by_steps
from reconverge.options import option
from reconverge.policy import train
from reconverge.policy.continual.learner import Learner
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.continual.rehearsal import required
from reconverge.policy.model.networks import NETWORKS
from reconverge.policy.runs.configuration import REPLAYS
from support.tiny_run import call, make_demonstrations, options


@dataclass(frozen=True)
class BilinearOptions:
    """One linear layer."""

    name: str = "bilinear"
    scale: float = option(1.0, "of the output", above=0)

    def build(self, *, sample_steps, sample_size, condition_size):
        return Bilinear(self.scale, sample_steps * sample_size, condition_size)


class Bilinear(nn.Module):
    def __init__(self, scale, flat, condition_size):
        super().__init__()
        self.scale = scale
        self.layer = nn.Linear(flat + condition_size, flat)

    def forward(self, x, k, condition):
        return self.scale * self.layer(torch.cat([x.flatten(1), condition], dim=1)).view_as(x)


@dataclass(frozen=True)
class SparseReplayOptions:
    """Replay in every n-th update only."""

    name: str = "sparse_replay"
    every: int = option(4, "updates between two with replay", at_least=1)

    def build(self, setting):
        return SparseReplay(setting, required(setting.replay, self.name), self.every)


class SparseReplay(Learner):
    replayed: list = []  # noqa: RUF012  # the updates with replay, of all tasks

    def __init__(self, setting, replay, every):
        super().__init__(setting, replay=replay)
        self.every = every

    def loss(self, sample):
        loss, metrics = super().loss(sample)
        if self.optimization.update % self.every or "distillation" not in metrics:
            return super().loss(replace_untaught(sample))[0], {"loss": metrics["loss"]}
        self.replayed.append((self.task, self.optimization.update))
        return loss, metrics


def replace_untaught(sample):
    """The samples of the current task alone."""
    current = len(sample.k) - sample.taught
    return type(sample)(*(part[:current] for part in sample.tensors))


@pytest.fixture
def added(tmp_path, monkeypatch):
    """One table row each."""
    monkeypatch.setitem(METHODS, "sparse_replay", SparseReplayOptions)
    monkeypatch.setitem(NETWORKS, "bilinear", BilinearOptions)
    for name in ("lift", "can"):
        short = replace(TASKS[name], name=f"{name}_fast", max_steps=90)
        monkeypatch.setitem(TASKS, short.name, short)
    monkeypatch.setattr(SparseReplay, "replayed", [])
    monkeypatch.chdir(tmp_path)


def without_mlp(arguments):
    return [a for a in arguments if not a.startswith("network.")]


def test_a_new_method_network_and_task_work_in_a_run(added, tmp_path, monkeypatch, capsys):
    tasks = ["lift_fast", "can_fast"]
    demonstrations = make_demonstrations(tmp_path / "demonstrations", tasks)
    arguments = without_mlp(options(demonstrations, tmp_path / "run"))
    arguments += ["method=sparse_replay", "method.every=3", "env=lift_fast,can_fast"]
    arguments += ["network=bilinear", "network.scale=0.5"]
    assert call(train.main, arguments, monkeypatch) == 0, capsys.readouterr().err
    assert SparseReplay.replayed == [(1, update) for update in (0, 3, 6, 9)]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    names = [summary[key] for key in ("method", "replay", "network", "tasks")]
    assert names == ["sparse_replay", "generator", "bilinear", tasks]
    assert summary["options"]["method"] == {"name": "sparse_replay", "every": 3}
    assert summary["parameters"] < 20_000
    manifest = tmp_path / "run" / "checkpoints" / "0_lift_fast" / "manifest.json"
    network = json.loads(manifest.read_text())["policy"]["network"]
    assert network == {"name": "bilinear", "scale": 0.5}


REFUSED = [
    (["network=bilinear", "network.scael=2"], "unknown option 'network.scael': did you mean"),
    (["network=bilinear", "network.scale=0"], "network.scale=0.0: must be above 0"),
    (["method=sparse_replay", "method.every=0"], "method.every=0: must be at least 1"),
    (["method=sparse_replay", "method.every=often"], "method.every=often: must be a whole number"),
    (["method=sparse_replay", "replay=none"], "method=sparse_replay replay=none would replay"),
    (["method=sparse_replay", "batch_size=2"], "batch_size=2: the generator's batches hold every"),
    (["method=sparse_reply"], "did you mean 'sparse_replay'"),
    (["env=lift_fst"], "did you mean 'lift_fast'"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=[" ".join(a) for a, _ in REFUSED])
def test_options_of_new_rows_are_checked(added, monkeypatch, capsys, arguments, said):
    assert call(train.main, arguments, monkeypatch) == 2
    assert said in capsys.readouterr().err


def test_a_row_bears_the_name_of_its_options(added, monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "sparse", SparseReplayOptions)
    assert call(train.main, ["method=sparse"], monkeypatch) == 2
    said = "the row sparse of method: its options say name=sparse_replay"
    assert said in capsys.readouterr().err


def test_a_kind_of_replay_is_not_taken_for_another(added, monkeypatch, capsys):
    monkeypatch.setitem(REPLAYS, "memory", make_dataclass("Memory", [("name", str, "memory")]))
    assert call(train.main, ["env=lift", "replay=memory"], monkeypatch) == 2
    assert "replay=memory: a row that make_replay does not know" in capsys.readouterr().err


def test_help_shows_new_rows(added, monkeypatch, capsys):
    assert call(train.main, ["--help"], monkeypatch) == 0
    out = capsys.readouterr().out
    assert "  sparse_replay  # Replay in every n-th update only." in out
    assert "    every: 4  # updates between two with replay" in out


def test_a_row_that_is_gone_is_unknown(added, monkeypatch, capsys):
    monkeypatch.delitem(METHODS, "sparse_replay")
    assert call(train.main, ["method=sparse_replay"], monkeypatch) == 2
    assert "unknown method 'sparse_replay'" in capsys.readouterr().err


class Point:
    """A new suite: a point that actions move; success is at the origin. No physics
    engine at all.
    """

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

    def advance(self, episodes, chunks, limits):
        seen = np.zeros((*chunks.shape[:2], 2), np.float32)
        return seen, advance_by_steps(self.step, self.read, episodes, chunks, limits, seen)

    def read(self, episode, row):
        row[:] = episode.x

    def observe(self, episodes):
        return np.stack([e.x for e in episodes]).astype(np.float32)


class Homing:
    """An expert that does not mind the bounds of actions."""

    def __init__(self, landmarks):
        pass

    def act(self, observation):
        return -5 * observation["object"]


def test_a_run_goes_on_beside_a_wider_new_task(demonstrations, tmp_path, monkeypatch, capsys):
    """The policy of a run keeps its width."""
    monkeypatch.chdir(tmp_path)
    arguments = [*options(demonstrations, tmp_path / "run"), "env=lift"]
    assert call(train.main, arguments, monkeypatch) == 0, capsys.readouterr().err
    bounds = ((-1.0,) * 50, (1.0,) * 50)
    wide = replace(TASKS["lift"], name="wide", observations={"object": bounds})
    monkeypatch.setitem(TASKS, "wide", wide)
    resume = [f"resume={tmp_path / 'run'}", "env=lift,can"]
    assert call(train.main, resume, monkeypatch) == 0, capsys.readouterr().err
    checkpoints = [tmp_path / "run" / "checkpoints" / name for name in ("0_lift", "1_can")]
    specs = [json.loads((path / "manifest.json").read_text())["policy"] for path in checkpoints]
    assert specs[0]["observation_size"] == specs[1]["observation_size"] < 50


def test_a_new_robosuite_task_is_one_row():
    row = replace(TASKS["can"], name="carton", simulator="PickPlaceMilk", scene=Scene("Milk"))
    simulator = RobosuiteSimulator(row)
    assert simulator.landmarks == {}
    episode = simulator.new_episode()
    simulator.reset(episode, 3)
    start = simulator.observe([episode])[0]
    for _ in range(5):
        simulator.step(episode, np.array([0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0]))
    seen = row.split(simulator.observe([episode])[0])
    assert seen["robot0_eef_pos"][2] < row.split(start)["robot0_eef_pos"][2] - 0.02
    assert not episode.success


def test_a_new_suite_is_one_more_row(tmp_path, monkeypatch, capsys):
    """Collect, train and evaluate tasks of another world with its own expert."""
    monkeypatch.setitem(SUITES, "point", Suite("point", Point, control_hz=10))
    square = ((-1.0, -1.0), (1.0, 1.0))
    for name in ("near", "far"):
        row = replace(
            TASKS["lift"],
            name=name,
            suite="point",
            simulator="Point",
            expert=Homing,
            expert_name="homing",
            max_steps=30,
            observations={"object": square},
            action_size=2,
        )
        monkeypatch.setitem(TASKS, name, row)
    monkeypatch.chdir(tmp_path)
    make_demonstrations(tmp_path / "demonstrations", ["near", "far"])
    store = DemonstrationStore.open(tmp_path / "demonstrations" / "near.zarr")
    assert check_actions(store).text == "in [-1, 1]"
    arguments = options(
        tmp_path / "demonstrations", tmp_path / "run", "env=near,far", "evaluation.n_rollouts=3"
    )
    assert call(train.main, [*arguments, "report=true"], monkeypatch) == 0
    assert "the simulator of near has no picture_model" in capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").exists()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["tasks"] == ["near", "far"]
    assert summary["success"][0][1] is None
    actor = type(
        "Still",
        (),
        {
            "n_obs_steps": 1,
            "begin": lambda self, slot, seed: None,
            "act": lambda self, slots, history: np.clip(-5 * history, -1, 1),
        },
    )()
    results = Evaluator(task_sequence(["near"]), 2, 1).rollouts(actor, 0, [1, 2, 3])
    assert [result.success for result in results] == [True] * 3
