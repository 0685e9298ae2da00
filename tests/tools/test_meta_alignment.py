"""The tool on a real run of two tasks."""

import json
import sys
from dataclasses import replace

import pytest
from PIL import Image

from reconverge.envs.catalog import TASKS
from reconverge.policy.continual.methods.ewc import EwcOptions
from reconverge.policy.continual.methods.replay import ReplayOptions
from reconverge.policy.continual.methods.single import SingleOptions
from reconverge.policy.continual.methods.trust_region import TrustRegionOptions
from reconverge.policy.demonstrations.scripted import collect
from reconverge.policy.runs.configuration import NoReplayOptions
from reconverge.policy.runs.folder import record_options, recorded_options, replaced
from reconverge.policy.train import main as train
from reconverge.tools import meta_alignment
from support.tiny_run import call, make_demonstrations, options, shorten


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alignment")
    demonstrations = make_demonstrations(folder / "demonstrations", ["lift", "can"])
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch, 20, "lift", "can")
        # At the default's policy first order holds only below the steps that float32 resolves.
        penalty = ["fisher=diagonal", "method.centre=before_task", "method.strength=1e5"]
        chosen = options(demonstrations, folder / "run", *penalty)
        assert call(train, chosen, patch) == 0
    return folder / "run"


def measured(run, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["meta_alignment", str(run), *arguments])
        meta_alignment.main()
    return json.loads((run / "meta_alignment.json").read_text())


def test_measure_compares_every_earlier_task_after_every_task(run):
    found = measured(run, "--windows", "64")
    assert [(row["after"], row["task"], row["since"]) for row in found["pairs"]] == [
        ("can", "lift", 1)
    ]
    row = found["pairs"][0]
    assert all(-1 <= row[name] <= 1 for name in row if name.startswith("cosine"))
    assert all(row[name] >= 0 for name in row if name.startswith("error"))
    assert Image.open(run / "plots" / "meta_alignment.png").width > 1000


def test_measure_with_a_smaller_inner_step_is_closer_to_first_order(run):
    errors = [
        measured(run, "--windows", "64", "--inner-rate", rate)["pairs"][0]["error_first_order"]
        for rate in ("1.0", "0.1")
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [(["--inner-rate", "0"], "rate must be above 0"), (["--windows", "0"], "windows 1 to")],
)
def test_main_names_bad_arguments(run, change, said, capsys):
    with pytest.raises(SystemExit) as exit:
        measured(run, *change)
    assert exit.value.code == 2
    assert said in capsys.readouterr().err


def test_main_refuses_other_demonstrations_than_the_run_began_with(run, tmp_path, capsys):
    stores = make_demonstrations(tmp_path / "others", ["can"])
    collect(TASKS["lift"], stores / "lift.zarr", episodes=2, noise=0.0, workers=1)
    (tmp_path / "checkpoints").symlink_to(run / "checkpoints")
    options = replaced(recorded_options(run), "demonstrations.path", str(stores))
    record_options(options, tmp_path)
    with pytest.raises(SystemExit) as exit:
        measured(tmp_path)
    assert exit.value.code == 2
    assert "lift.zarr: holds other demonstrations" in capsys.readouterr().err


AS_EWC = TrustRegionOptions(centre="before_task", strength=1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": EwcOptions()},
        {"method": SingleOptions()},
        {"replay": NoReplayOptions(), "method": AS_EWC},
        {"method": ReplayOptions(distillation_weight=0.0)},
    ],
    ids=str,
)
def test_main_refuses_a_run_without_replay(run, tmp_path, changes, capsys):
    (tmp_path / "checkpoints").symlink_to(run / "checkpoints")
    record_options(replace(recorded_options(run), **changes), tmp_path)
    with pytest.raises(SystemExit) as exit:
        measured(tmp_path)
    assert exit.value.code == 2
    assert "rehearses no earlier task" in capsys.readouterr().err


def test_main_refuses_a_run_of_one_task(run, tmp_path, capsys):
    record_options(recorded_options(run), tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "0_lift").symlink_to(run / "checkpoints" / "0_lift")
    with pytest.raises(SystemExit) as exit:
        measured(tmp_path)
    assert exit.value.code == 2
    assert "1 tasks have been learned; at least 2 are needed" in capsys.readouterr().err


def test_main_says_that_a_folder_holds_no_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        measured(tmp_path)
    assert exit.value.code == 2
    assert "give the directory of a run" in capsys.readouterr().err
