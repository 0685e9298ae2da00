"""`import reconverge`: the public names, and training from Python."""

import ast
import json
import sys
from importlib import import_module
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

import reconverge
from reconverge.configs import commandline
from reconverge.policy.runs.configuration import TRAIN
from reconverge.policy.train import main
from support.simulators import use_simulators
from support.tiny_checkpoint import make_checkpoint
from support.tiny_run import OPTIONS, call, make_demonstrations, shorten


def declared():
    """Name and module of what `reconverge/__init__.py` declares to type checkers."""
    (block,) = [
        node
        for node in ast.parse(Path(reconverge.__file__).read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_public_names_are_those_declared_to_type_checkers():
    assert sorted(declared()) == sorted(reconverge.__all__)
    for name, module in declared().items():
        assert getattr(reconverge, name) is getattr(import_module(module), name)
    assert set(reconverge.__all__) <= set(dir(reconverge))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'reconverge' has no attribute 'trian'"):
        reconverge.trian  # noqa: B018


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    return make_demonstrations(tmp_path_factory.mktemp("here") / "demonstrations", ["lift"])


@pytest.fixture
def quick(monkeypatch, simulator_of):
    """The session's simulators, and rollouts of 20 steps."""
    use_simulators(monkeypatch, "robosuite", simulator_of)
    shorten(monkeypatch, 20, "lift")


def test_load_policy_and_evaluate(tmp_path, quick):
    loaded = reconverge.load_policy(make_checkpoint(tmp_path / "checkpoints").path)
    assert [task.label for task in loaded.tasks] == ["lift", "can"]
    with pytest.raises(reconverge.ReconvergeError, match="did you mean 'lift'"):
        loaded.task("lfit")
    seeds = range(10_000_000, 10_000_003)
    (result,) = reconverge.evaluate(loaded, [loaded.task("lift")], seeds, slots=2, workers=1)
    env = reconverge.VectorEnv(reconverge.get_task("lift"), slots=1)
    alone = reconverge.rollout(env, loaded.actor(loaded.task("lift")), seeds)
    env.close()
    assert result.n_rollouts == 3
    assert result.success == sum(rollout.success for rollout in alone) / 3


def test_options_are_composed_within_a_program_that_uses_hydra_itself():
    with hydra.initialize_config_module("reconverge.configs", version_base="1.3"):
        own = GlobalHydra.instance().hydra
        found = commandline.compose(TRAIN, ["env=lift", "seed=3"])
        assert GlobalHydra.instance().hydra is own
    assert found.seed == 3


def test_train_takes_text_as_the_command_line_does(monkeypatch):
    """Also where hydra's grammar would stumble over it."""
    seen = []
    monkeypatch.setattr("reconverge.launch.execute", lambda *given: seen.append(given))
    reconverge.train("name=it's", env=["lift"])
    options, folder, names = seen[0]
    assert (options.name, folder.name, names) == ("it's", "it's", ["name", "env"])


def test_train_makes_the_run_of_the_command_line(demonstrations, quick, monkeypatch):
    tmp_path = demonstrations.parent
    monkeypatch.chdir(tmp_path)
    arguments = list(sys.argv)
    summary = reconverge.train(*OPTIONS, env=["lift"], name="python", method={"strength": 10.0})
    assert sys.argv == arguments
    typed = ["env=lift", *OPTIONS, "name=typed", "method.strength=10.0"]
    assert call(main, typed, monkeypatch) == 0

    weights = [
        (tmp_path / "runs" / name / "checkpoints" / "0_lift" / "model.safetensors").read_bytes()
        for name in ("python", "typed")
    ]
    assert weights[0] == weights[1]
    written = json.loads((tmp_path / "runs/python/summary.json").read_text())
    assert written.pop("sha256")
    assert written == summary.to_json()
    assert summary.options["method"]["strength"] == 10.0
    assert reconverge.train(resume="runs/python").success == summary.success
    with pytest.raises(reconverge.ReconvergeError, match="holds a run already"):
        reconverge.train(*OPTIONS, env=["lift"], name="python")


REFUSED = [
    ({"envv": ["lift"]}, "did you mean 'env'"),
    ({"network": {"widht": 3}}, "did you mean 'network.width'"),
    ({"method": "trust_regoin"}, "trust_region"),
    ({"seed": "one"}, "seed=one: must be a whole number"),
    ({"updates_per_task": None}, "updates_per_task=null: must be a whole number"),
    ({"name": "${nme}"}, "nme"),
    ({"resume": "nowhere"}, "resume=nowhere: no run is there"),
    ({"env": "[lift"}, "must be a list"),
    ({"hydra": {"run": {"dir": "elsewhere"}}}, "hydra's own options are for the command line"),
    ({"env": [reconverge.Task]}, "options are text, numbers and lists of them, tasks their names"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED, ids=[str(o) for o, _ in REFUSED])
def test_train_refuses_what_the_command_line_refuses(tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(reconverge.ReconvergeError, match=said) as caught:
        reconverge.train(**options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_train_refuses_a_value_without_a_name():
    with pytest.raises(reconverge.ReconvergeError, match=r"\['lift'\]: without a name"):
        reconverge.train(["lift"])
