"""On a GPU: every method runs to its end, a run resumes, and the policy that is left acts the same
on a CPU.
"""

import json
import shutil

import numpy as np
import pytest
import torch

from reconverge.policy import evaluate, train
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.model.actor import PolicyActor
from reconverge.policy.runs.loading import find_checkpoint, load_policy
from support.tiny_run import call, make_demonstrations, options

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

TASKS = ["push", "window-close"]
RUNS = [
    "method=trust_region",
    "method=trust_region optimizer.precision=bfloat16",
    "method=trust_region fisher=low_rank method.radius=0.1",
    "method=trust_region_paper fisher=rank1 network=unet1d",
    "method=replay replay=demonstrations replay.batch_size=16 replay.pool=32",
    "method=er replay=demonstrations replay.batch_size=16 replay.pool=32 replay.budget=1",
    *(f"method={name}" for name in METHODS if name != "trust_region"),
]


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    return make_demonstrations(tmp_path_factory.mktemp("gpu"), TASKS)


def learn(changes, demonstrations, folder, monkeypatch):
    """Return the summary of a run on the GPU with these options changed; a part chosen anew keeps
    none of its small sizes.
    """
    chosen = tuple(f"{change.split('=')[0]}." for change in changes.split())
    small = [
        option for option in options(demonstrations, folder)[1:] if not option.startswith(chosen)
    ]
    arguments = [f"env={','.join(TASKS)}", *small, "device=cuda", *changes.split()]
    assert call(train.main, arguments, monkeypatch) == 0
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("changes", RUNS)
def test_train_ends_on_a_gpu_and_its_policy_acts_the_same_on_a_cpu(
    changes, demonstrations, tmp_path, monkeypatch
):
    assert (
        learn(changes, demonstrations, tmp_path / "run", monkeypatch)["hardware"]["device"]
        == "cuda"
    )
    history = np.random.default_rng(0).uniform(-0.1, 0.1, (3, 2, 39)).astype(np.float32)
    actions = []
    for device in ("cpu", "cuda"):
        policy = load_policy(tmp_path / "run", device).policy
        actor = PolicyActor(policy, task=1)
        for slot in range(3):
            actor.begin(slot, seed=slot)
        actions.append(actor.act(range(3), history))
    assert np.abs(actions[0]).max() > 0.01
    np.testing.assert_allclose(actions[1], actions[0], atol=2e-3)


def test_train_resumes_on_a_gpu(demonstrations, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        learn("method=trust_region", demonstrations, folder, monkeypatch)
    (broken / "summary.json").unlink()
    for checkpoint in (broken / "checkpoints").glob("*_window-close*"):
        shutil.rmtree(checkpoint)
    assert find_checkpoint(broken).name == "0_push"
    assert call(train.main, [f"resume={broken}"], monkeypatch) == 0
    one, other = (load_policy(folder, "cuda").policy.state_dict() for folder in (whole, broken))
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=1e-3, atol=1e-4)


def test_evaluate_runs_on_a_gpu(demonstrations, tmp_path, monkeypatch, capsys):
    learn("method=finetune", demonstrations, tmp_path / "run", monkeypatch)
    arguments = [
        f"checkpoint={tmp_path / 'run'}",
        "env=push",
        "n_rollouts=2",
        "device=cuda",
        "workers=1",
    ]
    assert call(evaluate.main, arguments, monkeypatch) == 0
    assert "push" in capsys.readouterr().out
