"""The real command line, killed and interrupted in the middle of task 2, against a run in this
process that nothing disturbed.
"""

import json
import shlex
import signal
import time
from functools import partial

import pytest
from safetensors.torch import load_file

from reconverge.policy.runs.execution import reporting, resumable
from reconverge.policy.runs.summary import read_summary
from reconverge.policy.train import main
from support.tiny_run import call, make_demonstrations, make_options, options, start

LIMIT = 600  # seconds that any of the processes may take
UPDATES = "updates_per_task=12"
BOTH = "env=push,window-close"  # the shortest episodes


def finish(process):
    out, err = process.communicate(timeout=LIMIT)
    return process.returncode, out, err


def stop(process, folder, update, how):
    """Send the signal once the second task is probed at `update`; what the process then said."""
    deadline = time.monotonic() + LIMIT
    while not any(
        (e["kind"], e["task"], e["update"]) == ("probe", "window-close", update)
        for e in lines(folder)
    ):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    return finish(process)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An undisturbed run, and one interrupted, resumed, killed and resumed again."""
    root = tmp_path_factory.mktemp("runs")
    demonstrations = make_demonstrations(root / "demonstrations", ["push", "window-close"])
    whole = root / "whole"
    # The signals come between two checkpoints, when lines have been written that the resumed run
    # writes again: after the probes at 6 and at 8, while those at 8 and at 10 run.
    probes = ["evaluation.probe_rollouts=2", "evaluation.probe_current=2"]
    probes += ["evaluation.n_rollouts=2"]  # one after another: there is time for a signal
    extra = [BOTH, UPDATES, *probes, "checkpoint_every=5"]
    broken = root / "method=trust_region,seed=0"  # a name that hydra's grammar would stumble over
    process = start(options(demonstrations, f"'{broken}'", *extra), root)
    interrupted = stop(process, broken, 6, signal.SIGINT)
    left = sorted(path.name for path in (broken / "checkpoints").iterdir())
    killed = stop(start([f"resume={broken}"], root), broken, 8, signal.SIGKILL)
    between = lines(broken)
    resumed = finish(start([f"resume={broken}"], root))
    told = root / "told"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert call(main, options(demonstrations, whole, *extra), patch) == 0
        assert call(main, [*options(demonstrations, told, *extra), "env=push"], patch) == 0
        assert call(main, [f"resume={told}", BOTH], patch) == 0
    return {
        "whole": whole,
        "told": told,
        "broken": broken,
        "interrupted": interrupted,
        "left": left,
        "killed": killed,
        "between": between,
        "resumed": resumed,
        "root": root,
    }


def lines(folder):
    found = []
    path = folder / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # cut short by the kill
            continue
        found.append({name: value for name, value in entry.items() if name != "time"})
    return found


def test_learn_interrupted_leaves_a_run_that_can_be_resumed(runs):
    code, out, err = runs["interrupted"]
    assert code == 130
    assert "Traceback" not in err
    assert f"resume={runs['broken']}" in out + err
    assert runs["left"] == ["0_push", "1_window-close@5"]


def test_learn_was_killed_in_the_middle_of_the_second_task(runs):
    assert runs["killed"][0] == -signal.SIGKILL
    assert not any(
        e["kind"] == "evaluation" and e["task"] == "window-close" for e in runs["between"]
    )
    reached = max(e["update"] for e in runs["between"] if e["task"] == "window-close")
    assert reached in (8, 10)  # the signal takes its time


def test_learn_resumed_ends_with_the_weights_and_state_of_the_undisturbed_run(runs):
    code, _, err = runs["resumed"]
    assert code == 0, err[-2000:]
    for folder in ("0_push", "1_window-close"):
        for file in ("model.safetensors", "state.safetensors"):
            paths = [runs[name] / "checkpoints" / folder / file for name in ("whole", "broken")]
            tensors, others = map(load_file, paths)
            assert tensors.keys() == others.keys()
            assert all(value.equal(others[name]) for name, value in tensors.items())
            assert paths[0].read_bytes() == paths[1].read_bytes()


def test_learn_resumed_measures_the_same_and_writes_no_line_twice(runs):
    whole, broken = lines(runs["whole"]), lines(runs["broken"])
    assert whole == broken
    keys = [
        json.dumps(
            {k: e.get(k) for k in ("kind", "task", "update", "evaluated", "generator_update")}
        )
        for e in broken
    ]
    assert len(set(keys)) == len(keys)
    assert sum(e["kind"] == "update" for e in broken) == 2 * 2
    summaries = [
        json.loads((runs[name] / "summary.json").read_text()) for name in ("whole", "broken")
    ]
    for key in (
        "success",
        "recovery",
        "probes",
        "learning",
        "libero",
        "lowest_share",
        "forgetting",
        "average_success",
        "method",
        "updates_per_task",
        "parameters",
    ):
        assert summaries[0][key] == summaries[1][key], key


def test_a_run_that_learns_on_keeps_what_it_had_ended_with_apart(runs):
    assert read_summary(runs["told"] / "before").tasks == ["push"]
    assert read_summary(runs["told"]).tasks == ["push", "window-close"]
    assert not (runs["broken"] / "before").exists()


def test_learn_told_of_the_tasks_one_after_the_other_ends_the_same(runs):
    """A run of push, then `resume=` with both: weights, state and measurements are equal."""
    told = runs["told"]
    for file in ("model.safetensors", "state.safetensors"):
        paths = [runs[name] / "checkpoints" / "1_window-close" / file for name in ("whole", "told")]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    found, whole = (json.loads((runs[n] / "summary.json").read_text()) for n in ("told", "whole"))
    for key in ("tasks", "success", "probes", "recovery", "demonstrations"):
        assert found[key] == whole[key], key
    (change,) = found["changes"]
    assert (change["task"], change["update"]) == (1, 0)
    assert change["options"] == {"env": ["push", "window-close"]}
    assert lines(told) == lines(runs["whole"])


def test_learn_goes_on_only_with_the_demonstrations_that_it_began_with(runs, monkeypatch, capsys):
    stores = runs["root"] / "demonstrations"
    (stores / "push.zarr").rename(stores / "away.zarr")
    try:
        code = call(main, [f"resume={runs['told']}"], monkeypatch)
    finally:
        (stores / "away.zarr").rename(stores / "push.zarr")
    assert code == 2
    said = f"error: {stores}/push.zarr: is gone, and the run began with it (2 scripted)"
    assert said in capsys.readouterr().err


def test_learn_leaves_what_is_promised(runs):
    for name in ("whole", "broken"):
        found = {path.name for path in runs[name].iterdir()}
        assert {
            "config.yaml",
            "summary.json",
            "metrics.jsonl",
            "tensorboard",
            "checkpoints",
            "plots",
        } <= found
        assert {path.name for path in (runs[name] / "checkpoints").iterdir()} == {
            "0_push",
            "1_window-close",
        }
        assert not list(runs[name].rglob("*.partial"))
    assert {path.name for path in runs["root"].iterdir()} == {
        "demonstrations",
        "whole",
        "told",
        runs["broken"].name,
    }


@pytest.mark.parametrize("stopped", [partial(resumable, make_options()), reporting])
def test_a_shell_takes_what_a_stopped_run_is_continued_with(tmp_path, capsys, stopped):
    run = tmp_path / "my run"
    run.mkdir()
    with pytest.raises(KeyboardInterrupt), stopped(run, "train"):
        raise KeyboardInterrupt
    _, _, typed = capsys.readouterr().out.rpartition(": ")
    assert shlex.split(typed) == ["reconverge", "train", f"resume={run}"]
