"""A run that is not told where one task ends and the next begins."""

import json

import pytest

from reconverge.errors import ReconvergeError
from reconverge.policy import train
from reconverge.policy.reports.learned_run import read_learned
from support.tiny_run import OPTIONS, call, make_demonstrations, shorten

UNTOLD = ("boundaries=detected", "task_conditioning=none")
TASKS = ("hammer", "push-wall")


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    return make_demonstrations(tmp_path_factory.mktemp("demonstrations"), TASKS)


def test_a_run_notices_the_next_task_and_says_so(tmp_path, demonstrations, monkeypatch, capsys):
    shorten(monkeypatch, 4, *TASKS)
    run, where = tmp_path / "run", f"demonstrations.path={demonstrations}"
    chosen = ["updates_per_task=250", "optimizer.learning_rate=1e-2", "checkpoint_every=250"]
    arguments = ["env=hammer,push-wall", *OPTIONS, where, f"hydra.run.dir={run}", *chosen, *UNTOLD]
    assert call(train.main, arguments, monkeypatch) == 0
    summary = json.loads((run / "summary.json").read_text())
    ((task, update),) = summary["boundaries"]
    assert (task, summary["options"]["boundaries"]) == (1, "detected")
    assert 1 <= update <= 10
    said = f"a new task is noticed: update {update} of learning push-wall"
    printed = capsys.readouterr().out
    assert said in printed
    assert f"boundaries noticed 1 (update {update} of push-wall)" in printed
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["task"] for line in lines if line["kind"] == "generator"] == ["hammer"]
    with pytest.raises(ReconvergeError, match=r"boundaries=detected: its replay knows no tasks"):
        read_learned(run)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("env=hammer,push-wall", "boundaries=detected"), "add task_conditioning=none"),
        (("env=lift,can", *UNTOLD), "choose tasks whose declared bounds are the same"),
        (("env=cw10", *UNTOLD, "method=packnet"), "this method is not made for it"),
        (
            ("env=cw10", *UNTOLD, "observations=pixels", "encoder=resnet18"),
            "choose a frozen encoder",
        ),
        (("env=cw10", "boundaries=guessed"), "unknown boundaries 'guessed'"),
    ],
)
def test_runs_that_could_not_be_are_refused(typed, said, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert call(train.main, typed, monkeypatch) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
