"""Evaluation of a loaded policy: the counts of its own rollouts, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.rollout import Rollout, rollout
from reconverge.envs.vector import VectorEnv
from reconverge.errors import ReconvergeError
from reconverge.policy import evaluate as front_door
from reconverge.policy.runs import evaluation
from reconverge.policy.runs.evaluation import Evaluation, evaluate
from reconverge.policy.runs.metrics import wilson
from support.simulators import use_simulators
from support.tiny_checkpoint import make_checkpoint
from support.tiny_run import call, shorten

SEEDS = range(10_000_000, 10_000_003)


@pytest.fixture
def loaded(tmp_path, simulator_of, monkeypatch):
    """A policy of lift and can, with rollouts of 6 steps in the session's simulators."""
    use_simulators(monkeypatch, "robosuite", simulator_of)
    shorten(monkeypatch, 6, "lift", "can")
    return make_checkpoint(tmp_path / "checkpoints")


def test_evaluate_counts_the_policys_rollouts(loaded, monkeypatch):
    """An untrained policy solves nothing, so the outcomes of its rollouts are set by hand."""
    seen = []

    def played(env, actor, seeds, on_end):
        results = rollout(env, actor, seeds, on_end)
        assert [(r.success, r.steps) for r in results] == [(False, 6)] * 3
        seen.append((env.task.name, actor.task, len(env)))
        steps = {"lift": (3, 5, 6), "can": (6, 6, 6)}[env.task.name]
        return [
            Rollout(r.seed, r.slot, n < 6, n, env.task.name == "can")
            for r, n in zip(results, steps, strict=True)
        ]

    monkeypatch.setattr(evaluation, "rollout", played)
    ended = []
    found = evaluate(loaded, loaded.tasks, SEEDS, slots=2, workers=1, on_end=ended.append)
    assert seen == [("lift", 0, 2), ("can", 1, 2)]
    assert found == [Evaluation("lift", 3, 2, 4.0, 0), Evaluation("can", 3, 0, None, 3)]
    assert sorted(r.seed for r in ended) == sorted([*SEEDS, *SEEDS])
    assert found[0].success == 2 / 3
    assert found[0].interval == wilson(2, 3)
    assert found[0].to_json() == {
        "success": 2 / 3,
        "success_ci95": list(wilson(2, 3)),
        "n_rollouts": 3,
        "mean_steps_of_successes": 4.0,
        "diverged": 0,
    }


def test_evaluate_acts_in_the_frame_of_the_policy(tmp_path, loaded, simulator_of, monkeypatch):
    frames = []

    def build(task):
        frames.append((task.name, task.input_frame))
        return simulator_of(TASKS[task.name])

    use_simulators(monkeypatch, "robosuite", build)
    loaded = make_checkpoint(tmp_path / "other", input_frames={"can": "world"})
    evaluate(loaded, loaded.tasks, SEEDS[:1], workers=1)
    assert frames == [("lift", "base"), ("can", "world")]


@pytest.mark.parametrize(
    ("seeds", "slots", "said"),
    [
        (range(0), 1, "0 rollouts in 1 slots: n_rollouts and slots must be at least 1"),
        (SEEDS, 0, "3 rollouts in 0 slots"),
        (range(999_999, 1_000_001), 1, "seed=999999: seeds below 1000000 are for demonstrations"),
        (range(-3, 3), 1, "seed=-3: seeds below 1000000"),
    ],
)
def test_evaluate_refuses(loaded, seeds, slots, said, monkeypatch):
    monkeypatch.setattr(evaluation, "VectorEnv", lambda *a, **k: pytest.fail("it went to work"))
    with pytest.raises(ReconvergeError, match=said):
        evaluate(loaded, loaded.tasks, seeds, slots)


def test_evaluate_takes_seeds_of_numpy(loaded):
    (found,) = evaluate(loaded, loaded.tasks[:1], np.array(SEEDS[:2]), workers=1)
    assert found == evaluate(loaded, loaded.tasks[:1], SEEDS[:2], workers=1)[0]


def test_run_prints_a_table_and_writes_json(loaded, monkeypatch, capsys, tmp_path):
    output = tmp_path / "found.json"
    given = [f"checkpoint={loaded.path}", "n_rollouts=2", "workers=1", f"output={output}"]
    assert call(front_door.main, given, monkeypatch) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if " lift " in line or " can " in line]
    assert [row.replace("│", " ").split() for row in rows] == [
        [*name.split(), "0.0", "0", "to", "66", "2", "-", "0"] for name in ("lift", "can *")
    ]
    assert "* not learned yet" in out
    written = json.loads(output.read_text())
    assert written["checkpoint"] == str(loaded.path)
    assert written["seeds"] == [10_000_000, 10_000_002]
    with VectorEnv(TASKS["lift"], 2, 1) as env:
        rollouts = rollout(env, loaded.actor(loaded.tasks[0]), SEEDS[:2])
    assert written["tasks"]["lift"] == {
        "success": 0.0,
        "success_ci95": list(wilson(0, 2)),
        "n_rollouts": 2,
        "mean_steps_of_successes": None,
        "diverged": sum(r.diverged for r in rollouts),
    }


def test_official_starts_are_numbered_from_zero(loaded):
    """Their seeds are places in a list, of which demonstrations draw nothing."""
    lift, can = loaded.tasks
    official = replace(lift, starts="official")
    (found,) = evaluate(loaded, [official], range(2), workers=1)
    assert found.n_rollouts == 2
    with pytest.raises(ReconvergeError, match="seeds below 1000000"):
        evaluate(loaded, [official, can], range(2))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["n_rollouts=-3"], "n_rollouts=-3: must be at least 1"),
        (["slots=0"], "slots=0: must be at least 1"),
        (["seed=5"], "seed=5: seeds below 1000000 are for demonstrations; evaluate from"),
        (["env=square"], "'square': choose one of lift, can"),
    ],
)
def test_run_says_bad_input_in_one_line(loaded, monkeypatch, capsys, arguments, said):
    assert call(front_door.main, [f"checkpoint={loaded.path}", *arguments], monkeypatch) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert said in errors[0]
