"""Runs of robosuite's seven numbers an action at 20 Hz and Meta-World's four at 80 Hz."""

import json

import pytest
from safetensors.torch import load_file

from reconverge.policy import evaluate, train
from support.tiny_run import call, make_demonstrations, options, shorten

NAMES = ("lift", "hammer")


@pytest.fixture(scope="module")
def learn(tmp_path_factory):
    """Train a run of that name to its end, in episodes of 20 control steps; return its folder."""
    root = tmp_path_factory.mktemp("runs")
    demonstrations = make_demonstrations(root / "demonstrations", NAMES)

    def run(name, *extra):
        arguments = options(demonstrations, root / name, *extra)
        assert call(train.main, arguments, patch) == 0
        return root / name

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        shorten(patch, 20, *NAMES)
        yield run


@pytest.fixture(scope="module")
def both(learn):
    """A run of both tasks."""
    return learn("both", "env=lift,hammer")


def test_a_run_learns_unlike_tasks_and_acts_on_both(both, monkeypatch, capsys):
    summary = json.loads((both / "summary.json").read_text())
    assert summary["success"][0][1] is None
    assert None not in summary["success"][1]
    manifest = json.loads((both / "checkpoints" / "1_hammer" / "manifest.json").read_text())
    sizes = {name: manifest["policy"][name] for name in ("action_size", "action_sizes")}
    assert sizes == {"action_size": 7, "action_sizes": {"hammer": 4}}
    arguments = [f"checkpoint={both}", "n_rollouts=1", "workers=1"]
    assert call(evaluate.main, arguments, monkeypatch) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)


def test_a_run_goes_on_with_no_wider_task(learn, monkeypatch, capsys):
    run = learn("narrow", "env=hammer", "method=finetune")
    assert call(train.main, [f"resume={run}", "env=hammer,lift"], monkeypatch) == 2
    said = "env=hammer,lift: the run's policy is made for 4 numbers in an action, lift has 7; begin"
    assert said in capsys.readouterr().err


def test_a_run_with_room_goes_on_as_if_it_had_known(learn, both, monkeypatch):
    """The weights of a run that was told of both tasks at once."""
    told = learn("told", "env=lift", "room_for=metaworld")
    assert call(train.main, [f"resume={told}", "env=lift,hammer"], monkeypatch) == 0
    place = "checkpoints/1_hammer/model.safetensors"
    found, expected = load_file(told / place), load_file(both / place)
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)
