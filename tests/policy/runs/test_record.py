"""What a run's record writes, and what a resumed one drops."""

import json
from time import perf_counter

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reconverge.policy.continual.loop import Probe, Progress
from reconverge.policy.runs import checkpoint
from support.logged_run import UPDATES, Silent, interrupted, make_record, resumed


def make_facts():
    return {
        "method": "replay",
        "replay": "generator",
        "fisher": "none",
        "network": "mlp",
        "seed": 0,
        "updates_per_task": UPDATES,
        "evaluation_seeds": "evaluation",
        "options": {"batch_size": 8},
        "parameters": 1,
        "command": "",
        "versions": {},
        "hardware": {},
    }


def lines(folder):
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in entry.items() if name != "time"} for entry in found]


def test_updated_writes_every_tenth_update_and_the_last(tmp_path):
    progress = Progress()
    record = make_record(tmp_path, progress)
    for progress.update in range(1, UPDATES + 1):
        record.updated(progress, {"loss": float(progress.update), "learning_rate": 0.5})
    record.close()
    where = {"kind": "update", "task": "lift", "task_index": 0, "learning_rate": 0.5}
    assert lines(tmp_path) == [{**where, "update": n, "loss": float(n)} for n in (10, 20)]


def test_probed_writes_the_probes_of_this_update_alone(tmp_path):
    probes = [Probe(1, 0, 2, [True, True]), Probe(1, 0, 4, [True, False])]
    progress = Progress(task=1, update=4, successes=[[[True]]], probes=probes)
    record = make_record(tmp_path, progress)
    record.probed(progress)
    record.close()
    (line,) = lines(tmp_path)
    assert (line["kind"], line["task"], line["update"]) == ("probe", "can", 4)
    assert (line["evaluated"], line["success"]) == ("lift", 0.5)


def test_run_record_of_a_resumed_run_has_every_line_once(tmp_path):
    interrupted(tmp_path, "none")
    before = (tmp_path / "metrics.jsonl").read_text()
    resumed(tmp_path, "none")
    whole = (tmp_path / "metrics.jsonl").read_text()
    assert whole.startswith(before)
    kinds = [(e["kind"], e["task"], e.get("evaluated")) for e in lines(tmp_path)]
    assert kinds == [
        *2 * [("update", "lift", None)],
        ("evaluation", "lift", "lift"),
        ("generator", "lift", None),
        *2 * [("update", "can", None)],
        ("evaluation", "can", "lift"),
        ("evaluation", "can", "can"),
    ]


@pytest.mark.parametrize(("updates", "logged"), [(5, [5]), (25, [10, 20, 25])])
def test_generator_updated_writes_every_tenth_update_and_the_last(tmp_path, updates, logged):
    progress = Progress(task=1, successes=[[[True]]])
    record = make_record(tmp_path, progress)
    for update in range(1, updates + 1):
        record.generator_updated(progress, update, updates, 0.25)
    record.close()
    assert [line["generator_update"] for line in lines(tmp_path)] == logged


def test_steps_of_a_run_that_went_on_count_what_earlier_tasks_had(tmp_path):
    """The first task had 8 updates, as metrics.jsonl tells, where this one has 20."""
    line = {"kind": "evaluation", "task": "lift", "task_index": 0, "update": 8}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    progress = Progress(task=1, update=UPDATES, successes=[[[True]]])
    record = make_record(tmp_path, progress)
    record.updated(progress, {"loss": 0.5})
    record.close()
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in found.Scalars("train/loss")] == [8 + UPDATES]


def test_a_finished_run_that_is_resumed_keeps_its_time_and_memory(tmp_path):
    progress = Progress(task=2, successes=[[[True]], [[True], [False]]])
    record = make_record(tmp_path, progress, facts=make_facts())
    first = record.finish(progress, 7)
    progress.training_seconds, progress.peak_memory_mib = 1e6, 10**6
    again = make_record(tmp_path, progress, facts=make_facts())
    assert again.finish(progress, 7) == first


def test_a_resumed_run_adds_up_the_time_of_its_processes(tmp_path):
    progress = Progress(elapsed_seconds=1000.0, peak_memory_mib=10**6)
    progress.training_seconds, progress.successes = 900.0, [[[True]], [[True], [False]]]
    record = make_record(tmp_path, progress, facts=make_facts(), started=perf_counter() - 50)
    record.save(progress, {}, ended=False)
    saved = checkpoint.load(tmp_path / "checkpoints" / "0_lift@0").manifest["progress"]
    assert saved["elapsed_seconds"] == pytest.approx(1050, abs=10)
    summary = record.finish(progress, 7)
    assert summary.seconds.total == pytest.approx(1050, abs=10)
    assert (summary.seconds.training, summary.peak_memory_mib) == (900.0, 10**6)


def test_a_finished_run_that_learns_on_is_none_any_more(tmp_path):
    progress = Progress(task=2, successes=[[[True]], [[True], [False]]])
    record = make_record(tmp_path, progress, facts=make_facts())
    record.finish(progress, 7)
    (tmp_path / "videos").mkdir()
    reopened = Progress(task=1, update=20, successes=[[[True]]])
    make_record(tmp_path, reopened, facts=make_facts()).close()
    left = {path.name for path in tmp_path.iterdir()}
    assert not {"summary.json", "videos"} & left
    assert {path.name for path in (tmp_path / "before").iterdir()} == {"summary.json", "videos"}


def test_a_finished_run_learns_on_after_an_interrupted_move(tmp_path):
    """What is in `before/` alone stays: it was moved there; what was made again replaces it."""
    progress = Progress(task=2, successes=[[[True]], [[True], [False]]])
    record = make_record(tmp_path, progress, facts=make_facts())
    record.finish(progress, 7)
    for folder, made in ((tmp_path / "before", "old"), (tmp_path, "new")):
        (folder / "videos").mkdir(parents=True)
        (folder / "videos" / f"{made}.mp4").touch()
    (tmp_path / "before" / "report.html").touch()
    reopened = Progress(task=1, update=20, successes=[[[True]]])
    make_record(tmp_path, reopened, facts=make_facts()).close()
    left = {path.name for path in (tmp_path / "before").iterdir()}
    assert left == {"report.html", "summary.json", "videos"}
    assert [path.name for path in (tmp_path / "before" / "videos").iterdir()] == ["new.mp4"]
    assert not (tmp_path / "videos").exists()


def test_run_record_drops_lines_after_the_last_checkpoint(tmp_path):
    interrupted(tmp_path, "none")
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    cut = '{"kind": "update", "task": "li'  # by a kill
    for progress, kept in ((Progress(update=10), 1), (Progress(update=20), 2)):
        path.write_text(whole + cut)
        make_record(tmp_path, progress).close()
        assert [e["kind"] for e in lines(tmp_path)] == ["update"] * kept
    path.write_text(whole + cut)
    at_the_end_of_lift = Progress(task=1, successes=[[[True]]])
    record = make_record(tmp_path, at_the_end_of_lift)
    record.generator_updated(at_the_end_of_lift, 10, 20, 0.25)
    record.close()
    assert lines(tmp_path)[-1] == {
        "kind": "generator",
        "task": "lift",
        "task_index": 0,
        "update": UPDATES,
        "generator_update": 10,
        "loss": 0.25,
    }
    make_record(tmp_path, at_the_end_of_lift).close()  # the generator will be trained again
    assert path.read_text() == whole
    path.write_text(whole)
    record = make_record(tmp_path, at_the_end_of_lift)
    record.generator_updated(at_the_end_of_lift, 10, 20, 0.25)
    record.close()
    make_record(tmp_path, Progress(task=1, update=10, successes=[[[True]]])).close()
    assert lines(tmp_path)[-1]["kind"] == "generator"


@pytest.mark.parametrize(("ended", "name"), [(False, "1_can@7"), (True, "0_lift")])
def test_save_writes_weights_state_and_manifest(tmp_path, ended, name):
    progress = Progress(task=1, update=0 if ended else 7, successes=[[[True]]])
    record = make_record(tmp_path, progress)
    record.save(progress, {"x": torch.zeros(2)}, ended)
    record.close()
    found = checkpoint.load(tmp_path / "checkpoints" / name)
    assert torch.equal(found.weights["w"], torch.ones(1))
    assert torch.equal(found.state["x"], torch.zeros(2))
    assert found.manifest["policy"] == "tiny"
    assert Progress.from_json(found.manifest["progress"], "manifest") == progress


def test_task_ended_and_finish_tell_the_reporter(tmp_path):
    """The summary that is written is the one returned."""
    reporter, progress = Silent(), Progress(task=0, successes=[[[True, False]]])
    facts = make_facts()
    record = make_record(tmp_path, progress, facts=facts, reporter=reporter)
    record.task_ended(progress)
    progress.task, progress.successes = 2, [[[True, False]], [[True, True], [False, False]]]
    summary = record.finish(progress, 12)
    assert reporter.heard == [0, summary]
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["success"] == [[0.5, None], [1.0, 0.0]]
    assert written["method"] == facts["method"] == summary.method
    assert written["peak_memory_mib"] > 10
    assert written["memory_bytes"] == summary.memory_bytes == 12
