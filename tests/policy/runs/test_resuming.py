"""What a run that goes on may change, and what is recorded of it."""

from dataclasses import replace

import pytest

from reconverge.envs.catalog import TASKS
from reconverge.errors import ReconvergeError
from reconverge.files import write_json
from reconverge.options import option_names
from reconverge.policy.continual.loop import Distance, Probe, Progress
from reconverge.policy.continual.methods.packnet import PacknetOptions
from reconverge.policy.images.picture_options import ImageOptions
from reconverge.policy.runs.build import make_spec
from reconverge.policy.runs.checkpoint import CheckpointError
from reconverge.policy.runs.configuration import GROUPS, check_train_options
from reconverge.policy.runs.folder import DEMONSTRATIONS_FILE, flat, record_options
from reconverge.policy.runs.loading import TASK_ROWS
from reconverge.policy.runs.resuming import (
    MAY_CHANGE,
    Begun,
    begun_with,
    go_on,
    resumed_options,
    run_in,
)
from reconverge.policy.runs.summary import read_summary
from reconverge.seal import signed
from support.summaries import two_tasks, write_summary
from support.tiny_checkpoint import make_checkpoint
from support.tiny_run import make_options


def test_what_may_change_are_options():
    known = {spec for table in GROUPS.values() for row in table.values() for spec in names(row)}
    known |= {*option_names(ImageOptions()), *option_names(make_options())}
    assert set(MAY_CHANGE) <= known


def names(row):
    group = next(name for name, table in GROUPS.items() if row in table.values())
    return {f"{group}.{name}" for name in option_names(row())}


@pytest.fixture
def run(tmp_path):
    record_options(make_options(), tmp_path)
    return tmp_path


def test_resumed_options_are_those_recorded_but_for_what_is_typed(run):
    typed = make_options(seed=5, batch_size=8, updates_per_task=3000, device="cpu")
    names = ["batch_size", "device", "resume"]
    found = resumed_options(replace(typed, resume=str(run)), run, names)
    recorded = resumed_options(make_options(), run, [])
    assert found == replace(recorded, batch_size=8, device="cpu")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed=1: the run has 0, which cannot change"),
        ({"horizon": 8}, "horizon=8: the run has 4, which cannot change"),
        ({"name": "other"}, "name=other: the run has run"),
        ({"updates_per_task": 10}, "updates_per_task=10: the run has 2000 and may have more"),
        ({"env": ["can", "lift"]}, "further tasks at the end .* give env=lift,can,<task>"),
        ({"env": ["lift"]}, "further tasks at the end"),
        ({"env": ["lift", "cann"]}, "'cann'"),
    ],
)
def test_resumed_options_refuses_what_a_run_cannot_change(run, changes, said):
    with pytest.raises(ReconvergeError, match=said):
        resumed_options(make_options(**changes), run, list(changes))


def test_resumed_options_refuses_further_tasks_of_a_method_that_knows_all(tmp_path):
    record_options(make_options(method=PacknetOptions()), tmp_path)
    with pytest.raises(
        ReconvergeError, match="method=packnet must know all tasks before the first"
    ):
        resumed_options(make_options(env=["lift", "can", "square"]), tmp_path, ["env"])


def make_facts(**changes):
    facts = {name: name for name in ("method", "replay", "fisher", "command")}
    facts |= {"versions": {"torch": "2.1", "commit": "a"}, "hardware": {"device": "cuda"}}
    return {**facts, "seed": 0, "changes": [], **changes}


def spec_of(options):
    return make_spec(options, check_train_options(options))


def make_begun(options, progress, tmp_path):
    return Begun(tmp_path / "1_can", {}, progress, spec_of(options), make_facts(), flat(options))


def test_go_on_records_what_changed_from_which_update_on(tmp_path):
    options = make_options()
    begun = make_begun(options, Progress(task=1, update=7, successes=[[[True]]]), tmp_path)
    now = replace(options, batch_size=8, workers=2)
    here = {"torch": "2.2", "commit": "a"}
    facts = make_facts(command="second", hardware={"device": "cpu"}, versions=here)
    progress, found = go_on(begun, spec_of(now), facts, now, "second")
    assert progress == begun.progress
    assert (found["command"], found["hardware"]) == ("command", {"device": "cuda"})
    assert found["versions"]["torch"] == "2.1"
    options = {"batch_size": 8, "hardware.device": "cpu", "versions.torch": "2.2"}
    assert found["changes"] == [{"task": 1, "update": 7, "options": options, "command": "second"}]
    again = replace(begun, facts=found, options=flat(now))
    assert go_on(again, spec_of(now), facts, now, "third")[1]["changes"] == found["changes"]


def test_go_on_with_a_run_of_before_there_was_an_option_records_nothing_of_it(tmp_path):
    options = make_options()
    begun = make_begun(options, Progress(task=1, successes=[[[True]]]), tmp_path)
    begun = replace(begun, options={k: v for k, v in begun.options.items() if k != "boundaries"})
    assert go_on(begun, spec_of(options), make_facts(), options, "on")[1]["changes"] == []


@pytest.mark.parametrize(("device", "told"), [("cuda", {"hardware.gpu": "other"}), ("cpu", {})])
def test_go_on_tells_of_another_gpu_where_one_is_used(tmp_path, device, told):
    options = make_options()
    begun = make_begun(options, Progress(task=1, successes=[[[True]]]), tmp_path)
    before, now = ({"device": device, "gpu": gpu} for gpu in ("one", "other"))
    begun = replace(begun, facts=make_facts(hardware=before))
    changes = go_on(begun, spec_of(options), make_facts(hardware=now), options, "on")[1]["changes"]
    assert [change["options"] for change in changes] == ([told] if told else [])


def test_go_on_with_a_finished_run_on_another_device_records_nothing(tmp_path):
    options = make_options()
    finished = Progress(task=2, successes=[[[True]], [[True], [False]]])
    begun = make_begun(options, finished, tmp_path)
    facts = make_facts(hardware={"device": "cpu"})
    assert go_on(begun, spec_of(options), facts, options, "report")[1]["changes"] == []


def test_go_on_with_a_finished_run_refuses_what_it_did_not_learn_with(tmp_path):
    options = make_options()
    finished = Progress(task=2, successes=[[[True]], [[True], [False]]])
    begun, other = make_begun(options, finished, tmp_path), replace(options, batch_size=8)
    with pytest.raises(ReconvergeError, match=r"batch_size=8: all tasks are learned, with 128"):
        go_on(begun, spec_of(other), make_facts(), other, "report")
    slots = replace(options, evaluation=replace(options.evaluation, slots=3))  # decides nothing
    assert go_on(begun, spec_of(slots), make_facts(), slots, "report")[1]["changes"] == []
    older = replace(begun, options={n: v for n, v in begun.options.items() if n != "batch_size"})
    assert go_on(older, spec_of(other), make_facts(), other, "report")[1]["changes"] == []


def test_go_on_with_more_updates_reopens_the_last_task_of_a_finished_run(tmp_path):
    options = make_options(updates_per_task=60)
    probes = [Probe(1, 0, 50, [True]), Probe(1, 0, 60, [True])]
    finished = Progress(task=2, successes=[[[True]], [[True], [False]]], probes=probes)
    more = replace(options, updates_per_task=100)
    begun = make_begun(options, finished, tmp_path)
    progress, facts = go_on(begun, spec_of(more), make_facts(), more, "more")
    assert (progress.task, progress.update, progress.successes) == (1, 60, [[[True]]])
    assert progress.probes == probes[:1]  # that at 60 was of the end
    assert facts["changes"][0]["update"] == 60


@pytest.mark.parametrize(("end", "kept"), [(50, [0, 2]), (60, [2])])
def test_go_on_with_more_updates_keeps_what_they_would_have_measured(tmp_path, end, kept):
    """At 50 there is a probe whatever the number of updates; what was of the evaluation goes."""
    options = make_options(updates_per_task=end)
    rollouts = options.evaluation.probe_rollouts
    samples = (rollouts, 2 * rollouts, 2 * rollouts)
    distances = [
        Distance(1, 0, update, count, 0.5)
        for update, count in zip((end, end, 30), samples, strict=True)
    ]
    probes = [Probe(1, 0, update, [True]) for update in (end, 30)]
    finished = Progress(2, 0, [[[True]], [[True], [False]]], probes, distances=distances)
    more = replace(options, updates_per_task=100)
    begun = make_begun(options, finished, tmp_path)
    progress, _ = go_on(begun, spec_of(more), make_facts(), more, "more")
    assert progress.probes == (probes if end == 50 else probes[1:])
    assert progress.distances == [distances[i] for i in kept]


def test_go_on_with_further_tasks_leaves_the_last_one_as_it_is(tmp_path):
    options = make_options()
    finished = Progress(task=2, successes=[[[True]], [[True], [False]]])
    more = replace(options, env=["lift", "can", "square"], updates_per_task=3000)
    begun = make_begun(options, finished, tmp_path)
    progress, _ = go_on(begun, spec_of(more), make_facts(), more, "more")
    assert (progress.task, progress.update) == (2, 0)


def test_go_on_refuses_another_architecture_and_too_many_tasks(tmp_path):
    options = make_options()
    begun = make_begun(options, Progress(), tmp_path)
    spec = spec_of(options)
    for other in (replace(spec, horizon=8), replace(spec, observation_size=99)):
        with pytest.raises(CheckpointError, match="of another architecture or method"):
            go_on(begun, other, make_facts(), options, "")
    for fact in ("method", "replay", "fisher", "seed"):
        with pytest.raises(CheckpointError, match="of another architecture or method"):
            go_on(begun, spec, make_facts(**{fact: "other"}), options, "")
    some, many, most = (
        replace(spec, tasks=spec.tasks + [f"lift_{i}" for i in range(2, n)]) for n in (34, 40, 70)
    )
    for was, now, rows in ((spec, some, TASK_ROWS), (many, most, 2 * TASK_ROWS)):
        with pytest.raises(
            ReconvergeError, match=f"{len(now.tasks)} tasks, .* has room for {rows}; begin a new"
        ):
            go_on(replace(begun, spec=was), now, make_facts(), options, "")


def test_go_on_with_a_further_task_of_smaller_actions(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "nod", replace(TASKS["lift"], name="nod", action_size=4))
    options = make_options(env=["lift"])
    more = replace(options, env=["lift", "nod"])
    begun = make_begun(options, Progress(task=1, successes=[[[True]]]), tmp_path)
    spec = make_spec(more, check_train_options(more), begun.spec)
    assert (begun.spec.action_sizes, spec.action_sizes) == ({}, {"nod": 4})
    progress, _ = go_on(begun, spec, make_facts(), more, "more")
    assert (progress.task, progress.update) == (1, 0)
    other = replace(spec, action_sizes={"lift": 4, "nod": 4})
    with pytest.raises(CheckpointError, match="of another architecture or method"):
        go_on(begun, other, make_facts(), more, "more")


def test_run_in_a_sweep_that_is_typed_again_makes_the_report_that_is_lacking(tmp_path):
    options, made = make_options(report=True), []
    folder = tmp_path / "run"
    write_summary(folder, two_tasks())
    record_options(options, folder)

    def again(**changes):
        typed = replace(options, **changes)
        run_in(folder, typed, [], True, lambda *_: made.append(typed) or read_summary(folder))
        return len(made)

    assert again() == 0  # there is no policy to film any more
    make_checkpoint(folder / "checkpoints")
    assert again(report=False) == 0
    assert again() == 1
    (folder / "report.html").touch()
    assert again() == 1


def test_run_in_no_sweep_goes_on_with_a_finished_run(tmp_path):
    folder, finished = write_summary(tmp_path / "run", two_tasks()), []
    record_options(make_options(), folder)
    options = make_options(resume=str(folder))
    run_in(folder, options, [], False, lambda *_: finished.append(1) or read_summary(folder))
    assert finished


def test_begun_with_refuses_demonstrations_that_were_edited(tmp_path):
    assert begun_with(tmp_path, None) == {}
    found = {"lift": {"checksum": 1}}
    write_json(tmp_path / DEMONSTRATIONS_FILE, signed(found))
    assert begun_with(tmp_path, None) == found
    write_json(tmp_path / DEMONSTRATIONS_FILE, signed(found) | {"lift": {"checksum": 2}})
    with pytest.raises(ReconvergeError, match=r"demonstrations\.json: is not as it was written"):
        begun_with(tmp_path, None)
