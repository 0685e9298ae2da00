"""Several runs on every launcher, by the real command line: what is finished stays, what is broken
goes on.
"""

import json
import shutil

import pytest

from support.tiny_run import OPTIONS, make_demonstrations, start

LIMIT = 400  # seconds


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    return make_demonstrations(tmp_path_factory.mktemp("sweeps") / "demonstrations", ["lift"])


def sweep(folder, demonstrations, *extra):
    options = ["env=lift", *OPTIONS, f"demonstrations.path={demonstrations}"]
    short = "hydra.sweep.subdir='${method.name}_seed${seed}'"
    process = start(["-m", *options, short, "method=finetune", *extra], folder)
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err


def test_open_run_goes_on_with_a_sweep_that_is_typed_again(tmp_path, demonstrations):
    code, _, err = sweep(tmp_path, demonstrations, "seed=0,1")
    assert code == 0, err
    first, second = (tmp_path / "runs" / "sweep" / f"finetune_seed{seed}" for seed in (0, 1))
    finished, wanted = (
        (first / "summary.json").stat().st_mtime_ns,
        json.loads((second / "summary.json").read_text()),
    )
    (second / "summary.json").unlink()
    shutil.rmtree(second / "checkpoints" / "0_lift")
    code, out, err = sweep(tmp_path, demonstrations, "seed=0,1")
    assert code == 0, err
    assert "finetune_seed0 is finished" in out + err
    assert (first / "summary.json").stat().st_mtime_ns == finished
    again = json.loads((second / "summary.json").read_text())
    assert again["success"] == wanted["success"]
    assert not (second / "report.html").exists()
    (second / "summary.json").unlink()
    code, _, err = sweep(tmp_path, demonstrations, "seed=0,1", "report=true", "checkpoint_every=7")
    assert code == 0, err
    assert (second / "report.html").exists()  # what does not decide the result is as typed last
    code, _, err = sweep(tmp_path, demonstrations, "seed=0,1", "batch_size=8")
    assert code == 2
    assert "holds a run with batch_size=16, not 8; choose another sweep=" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("launcher", ["processes", "slurm_local", "cluster"])
def test_open_run_on_every_launcher(tmp_path, demonstrations, launcher):
    code, out, err = sweep(tmp_path, demonstrations, "seed=0,1", f"hydra/launcher={launcher}")
    assert code == 0, out + err
    found = sorted(
        path.parent.name for path in (tmp_path / "runs" / "sweep").glob("*/summary.json")
    )
    assert found == ["finetune_seed0", "finetune_seed1"]


def test_open_run_that_fails_elsewhere_fails_the_sweep(tmp_path, demonstrations):
    code, _, err = sweep(
        tmp_path, demonstrations, "seed=0", "n_action_steps=9", "hydra/launcher=processes"
    )
    assert code == 2
    assert "a run of the sweep failed (n_action_steps" in err
    assert "Traceback" not in err
