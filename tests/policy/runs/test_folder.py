"""Several runs on every launcher, by the real command line: what is finished stays, what is broken
goes on.
"""

import json
import shutil
import subprocess
import sys

import pytest

from reconverge.errors import ReconvergeError
from reconverge.policy.runs.folder import (
    forget,
    open_run,
    owned,
    record_options,
    recorded_options,
)
from reconverge.policy.train import main
from support.tiny_run import OPTIONS, call, make_demonstrations, make_options, shorten, start

LIMIT = 600  # seconds


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    return make_demonstrations(tmp_path_factory.mktemp("sweeps") / "demonstrations", ["push"])


def arguments(demonstrations, *extra):
    options = ["env=push", *OPTIONS, f"demonstrations.path={demonstrations}"]
    short = "hydra.sweep.subdir='${method.name}_seed${seed}'"
    return ["-m", *options, short, "method=finetune", *extra]


def sweep(folder, demonstrations, *extra):
    process = start(arguments(demonstrations, *extra), folder)
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err


def test_open_run_goes_on_with_a_sweep_that_is_typed_again(
    tmp_path, demonstrations, monkeypatch, capsys
):
    def typed(*extra):
        code = call(main, arguments(demonstrations, *extra), monkeypatch)
        return code, "".join(capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    shorten(monkeypatch, 20, "push")
    code, said = typed("seed=0,1")
    assert code == 0, said
    first, second = (tmp_path / "runs" / "sweep" / f"finetune_seed{seed}" for seed in (0, 1))
    finished, wanted = (
        (first / "summary.json").stat().st_mtime_ns,
        json.loads((second / "summary.json").read_text()),
    )
    (second / "summary.json").unlink()
    shutil.rmtree(second / "checkpoints" / "0_push")
    code, said = typed("seed=0,1", "checkpoint_every=7")
    assert code == 0, said
    assert "finetune_seed0 is finished" in said
    assert (first / "summary.json").stat().st_mtime_ns == finished
    found = json.loads((second / "summary.json").read_text())
    assert found["success"] == wanted["success"]
    # what does not decide the result is as typed last
    assert recorded_options(second).checkpoint_every == 7
    code, said = typed("seed=0,1", "batch_size=8")
    assert code == 2
    assert "holds a run with batch_size=16, not 8; choose another sweep=" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("launcher", ["slurm_local", "cluster"])
def test_open_run_on_every_launcher(tmp_path, demonstrations, launcher):
    code, out, err = sweep(tmp_path, demonstrations, "seed=0", f"hydra/launcher={launcher}")
    assert code == 0, out + err
    assert (tmp_path / "runs" / "sweep" / "finetune_seed0" / "summary.json").exists()


def test_open_run_that_fails_elsewhere_fails_the_sweep_and_stops_no_other(tmp_path, demonstrations):
    """One of two processes is told that it may execute more actions than it plans."""
    actions = ["n_action_steps=4,9", "hydra.sweep.subdir='${n_action_steps}'"]
    code, _, err = sweep(tmp_path, demonstrations, *actions, "hydra/launcher=processes")
    assert code == 2
    assert "a run of the sweep failed (n_action_steps" in err
    assert "Traceback" not in err
    found = [path.parent.name for path in (tmp_path / "runs" / "sweep").glob("*/summary.json")]
    assert found == ["4"]


OWN = """
import sys, time
from pathlib import Path
from reconverge.policy.runs.folder import owned

with owned(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "metrics.jsonl").touch()
    print("owns", flush=True)
    time.sleep(600)
"""


def test_owned_lets_one_process_in_at_a_time(tmp_path):
    folder = tmp_path / "run"
    arguments = [sys.executable, "-c", OWN, str(folder)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "owns\n"
    with (
        pytest.raises(ReconvergeError, match=f"^{folder}: another process works on this run"),
        owned(folder),
    ):
        pytest.fail("two owners")
    process.kill()
    process.communicate()
    with owned(folder):  # the system released what was killed
        assert (folder / "metrics.jsonl").exists()
    assert [path.name for path in folder.iterdir()] == ["metrics.jsonl"]


def test_owned_leaves_no_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyError), owned(tmp_path / "runs" / "mine"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with owned(tmp_path / "runs" / "mine"):
        (tmp_path / "runs" / "other").mkdir()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["other"]


def test_owned_says_where_it_cannot_write(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ReconvergeError, match="file/run: cannot be written"),
        owned(tmp_path / "file" / "run"),
    ):
        pytest.fail("it owns nothing")


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("batch_size: 128", "batch_size: 256", 1),
        lambda text: text + "x: 1\n",
        lambda text: text.replace("# sha256", "# SHA256", 1),
        lambda text: "",
    ],
)
def test_recorded_options_refuses_an_edited_file(tmp_path, edit):
    record_options(make_options(), tmp_path)
    path = tmp_path / "config.yaml"
    before = path.read_text()
    assert recorded_options(tmp_path).batch_size == 128
    path.write_text(edit(before))
    assert path.read_text() != before
    with pytest.raises(ReconvergeError, match="is not as it was written; restore it"):
        recorded_options(tmp_path)


def test_a_shell_takes_what_a_run_is_continued_with(tmp_path):
    run = tmp_path / "my run"
    run.mkdir()
    record_options(make_options(), run)
    with pytest.raises(ReconvergeError, match=f"continue it with 'resume={run}', or"):
        open_run(make_options(), run, in_sweep=False)
    (run / "config.yaml").write_text("")
    with pytest.raises(ReconvergeError, match=f"reconverge train 'resume={run}' name=value"):
        recorded_options(run)


def test_forget_leaves_a_run_that_has_begun(tmp_path):
    record_options(make_options(), tmp_path)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert not forget(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")  # opened, and no update told
    (tmp_path / "checkpoints").mkdir()
    assert not forget(tmp_path)
    (tmp_path / "checkpoints").rmdir()
    assert forget(tmp_path)
    assert list(tmp_path.iterdir()) == []
