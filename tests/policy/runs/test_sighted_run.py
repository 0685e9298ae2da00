"""A policy that sees: trained, found again in its checkpoint, evaluated, and not exported."""

import json

import numpy as np
import pytest

from reconverge.errors import ReconvergeError
from reconverge.policy.deployment.contract import make_contract
from reconverge.policy.runs.loading import load_policy
from reconverge.policy.train import main
from support.tiny_run import OPTIONS, call

SEEING = ["env=lift", "observations=pixels", "cameras=[agentview]", "picture_size=32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("sighted")
    arguments = [*SEEING, *OPTIONS, f"demonstrations.path={root / 'demonstrations'}"]
    with pytest.MonkeyPatch.context() as patch:
        assert call(main, [*arguments, f"hydra.run.dir={root / 'run'}"], patch) == 0
    return root / "run"


def test_its_options_say_what_it_sees(run):
    sight = json.loads((run / "summary.json").read_text())["options"]["sight"]
    assert sight["cameras"] == ["agentview"]
    assert sight["encoder"]["name"] == "efficientnet_lite0"


def test_a_checkpoint_knows_how_its_policy_sees(run):
    loaded = load_policy(run)
    (task,) = loaded.tasks
    assert list(task.observations)[-1] == "agentview_features"
    assert task.sight.view.size == 32
    actor = loaded.actor(task)
    actor.begin(0, 1)
    chunk = actor.act([0], np.zeros((1, actor.n_obs_steps, task.observation_size), np.float32))
    assert chunk.shape == (1, 2, 7)


def test_it_is_neither_exported_nor_served(run):
    loaded = load_policy(run)
    with pytest.raises(ReconvergeError, match="sees pictures"):
        make_contract(loaded.tasks[0], loaded.policy)
