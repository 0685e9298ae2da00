"""The loop: its order, what it measures, and resuming it at any checkpoint."""

import copy
import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cache

import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.loop import (
    COARSE,
    DENSE,
    JointSource,
    LoopSettings,
    Probe,
    Probing,
    Progress,
    learn_tasks,
)
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.continual.optimization import DivergenceError
from support.tiny import make_method, make_policy, make_windows
from support.typecheck import unchecked

PROBING = Probing(rollouts=2, current=2)  # of the current task at updates 6 and 12
SETTINGS = LoopSettings(12, 16, checkpoint_every=5, seed=0, n_rollouts=4, probing=PROBING)
ALONE = ("finetune", "l2", "ewc", "online_ewc", "mas", "packnet", "multitask", "single")
CASES = [(name, "demonstrations") for name in METHODS]
CASES += [(name, "generator") for name in METHODS if name not in ALONE]  # those replay nothing
CASES += [("er", "memory"), ("trust_region", "memory")]
CHECKPOINTS = [(0, 5), (0, 10), (0, 12), (1, 0), (1, 5), (1, 10), (1, 12), (2, 0)]
"""task, update"""


class Log:
    """An observer that keeps all that it hears."""

    def __init__(self):
        self.events, self.saved, self.metrics = [], [], []

    def updated(self, progress, metrics):
        self.events.append(("update", progress.task, progress.update))
        self.metrics.append(metrics)

    def probed(self, progress):
        self.events.append(("probe", progress.task, progress.update))

    def generator_updated(self, progress, update, updates, loss):
        self.events.append(("generator", progress.task, update))

    def task_ended(self, progress):
        self.events.append(("end", progress.task, len(progress.successes)))

    def save(self, progress, state, ended):
        self.events.append(("save", progress.task, progress.update))
        state = {name: value.clone() for name, value in state.items()}
        self.saved.append((copy.deepcopy(progress), state, ended))


def evaluate(policy, task, n):
    """A stand-in for rollouts that notices any change of the weights."""
    total = sum(float(p.double().abs().sum()) for p in policy.parameters())
    return [bool(int(total * 1e6 * (i + task + 1)) % 2) for i in range(n)]


def run(
    method, progress=None, state=None, *, measure=evaluate, tasks=2, settings=SETTINGS, log=None
):
    log = log or Log()
    windows = [lambda task=task: make_windows(task) for task in range(tasks)]
    # What goes on was checked when it began.
    checks = nullcontext() if progress is None else unchecked()
    progress = progress if progress is not None else Progress()
    with checks:
        learn_tasks(method, windows, measure, log, settings, progress, state)
    return progress, log


@cache
def uninterrupted(name, source):
    method = make_method(name, source)
    progress, log = run(method)
    return method.state_dict(), progress, log


def measured(progress):
    return progress.task, progress.update, progress.successes, progress.probes


def test_learn_tasks_learns_probes_evaluates_and_saves_in_order():
    _, _, log = uninterrupted("trust_region", "generator")
    first = [("update", 0, i) for i in range(1, 13)]
    for after, event in ((5, ("save", 0, 5)), (7, ("probe", 0, 6)), (12, ("save", 0, 10))):
        first.insert(after, event)
    first.append(("save", 0, 12))
    first += [("end", 0, 1), ("save", 1, 0)] + [("generator", 1, i) for i in range(1, 6)]
    assert log.events[: len(first)] == first
    second = log.events[len(first) :]
    assert [e[2] for e in second if e[0] == "update"] == list(range(1, 13))
    assert [e[2] for e in second if e[0] == "probe"] == [2, 4, 6, 8, 10]
    assert [e[1:] for e in second if e[0] == "save"] == [(1, 5), (1, 10), (1, 12), (2, 0)]
    # A checkpoint has the probe of its update.
    assert second.index(("probe", 1, 10)) < second.index(("save", 1, 10))
    assert second[-2:] == [("end", 1, 2), ("save", 2, 0)]
    assert not any(e[0] == "generator" for e in second)
    assert [(p.task, p.update) for p, _, _ in log.saved] == CHECKPOINTS
    assert [ended for _, _, ended in log.saved] == 2 * [False, False, False, True]


def test_learn_tasks_measures_every_task_seen():
    _, progress, _ = uninterrupted("replay", "demonstrations")
    assert [[len(successes) for successes in row] for row in progress.successes] == [[4], [4, 4]]
    probes = [(p.while_learning, p.task, p.update) for p in progress.probes]
    assert [found for found in probes if found[0] != found[1]] == [
        (1, 0, update) for update in (2, 4, 6, 8, 10, 12)
    ]
    assert [found for found in probes if found[0] == found[1]] == [
        (task, task, update) for task in (0, 1) for update in (6, 12)
    ]
    assert (progress.task, progress.update) == (2, 0)
    assert progress.training_seconds > 0
    assert progress.evaluation_seconds > 0
    assert {len(p.successes) for p in progress.probes} == {2}
    last = [p.successes for p in progress.probes if p.update == 12]
    assert last == [progress.successes[k][task][:2] for k, task in ((0, 0), (1, 0), (1, 1))]


UNPROBED = replace(SETTINGS, probing=Probing())


def test_learn_tasks_without_a_probe_makes_none():
    progress, log = run(make_method("finetune"), settings=UNPROBED)
    assert progress.probes == []
    assert not any(e[0] == "probe" for e in log.events)
    assert len(progress.successes) == 2


def test_learn_tasks_learns_the_same_with_and_without_probes():
    alone, probed = make_method("replay"), make_method("replay")

    def noisy(policy, task, n):
        torch.rand(3)
        return evaluate(policy, task, n)

    run(alone, settings=UNPROBED)
    run(probed, measure=noisy)
    assert same(alone.state_dict(), probed.state_dict())


def same(state, other):
    assert state.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in state.items())


@pytest.mark.parametrize(("name", "source"), CASES)
@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda c: f"task{c[0]}-update{c[1]}")
def test_learn_tasks_resumed_at_any_checkpoint_ends_the_same(name, source, checkpoint):
    state, progress, log = uninterrupted(name, source)
    at, saved, _ = copy.deepcopy(log.saved[CHECKPOINTS.index(checkpoint)])
    torch.manual_seed(1234)  # the process's own random state must not matter
    method = make_method(name, source, policy=make_policy(seed=77))
    resumed, after = run(method, at, saved)
    assert same(method.state_dict(), state)
    assert measured(resumed) == measured(progress)
    whole = [e for e in log.events if e[0] in ("update", "end")]
    rest = [e for e in after.events if e[0] in ("update", "end")]
    assert rest == whole[len(whole) - len(rest) :]


@pytest.mark.parametrize(("name", "source"), CASES)
def test_learn_tasks_told_of_one_task_and_then_of_another_ends_the_same(name, source):
    state, progress, log = uninterrupted(name, source)
    alone = make_method(name, source)
    first, _ = run(alone, tasks=1)
    method = make_method(name, source, policy=make_policy(seed=77))
    both, after = run(method, first, alone.state_dict())
    assert same(method.state_dict(), state)
    assert measured(both) == measured(progress)
    assert after.events == log.events[-len(after.events) :]


def test_learn_tasks_takes_more_updates_of_the_last_task():
    method = make_method("trust_region", "generator")
    run(method, log=(log := Log()))
    at, saved, _ = log.saved[CHECKPOINTS.index((1, 12))]
    more = make_method("trust_region", "generator")
    after, log = run(more, at, saved, settings=replace(SETTINGS, updates_per_task=20))
    assert [e[2] for e in log.events if e[0] == "update"] == list(range(13, 21))
    rates = [metrics["learning_rate"] for metrics in log.metrics]
    assert rates == [more.optimization.options.rate(i, 20) for i in range(12, 20)]
    assert (after.task, after.update, len(after.successes)) == (2, 0, 2)


@pytest.mark.parametrize("update", [3, 17])
def test_learn_tasks_keeps_the_last_checkpoint_where_a_loss_is_not_finite(monkeypatch, update):
    state, progress, _ = uninterrupted("replay", "generator")
    method, log = make_method("replay", "generator"), Log()
    step = method.optimization.step
    calls = []

    def poisoned(loss):
        calls.append(1)
        return step(loss * float("nan") if len(calls) == update else loss)

    monkeypatch.setattr(method.optimization, "step", poisoned)
    reached = Progress()
    with pytest.raises(DivergenceError, match=f"nan at update {(update - 1) % 12}"):
        run(method, reached, log=log)
    assert len(log.metrics) == update - 1
    if update == 3:
        assert log.saved == []
        return
    at, saved, _ = log.saved[-1]
    assert (at.task, at.update) == (1, 0)
    fresh = make_method("replay", "generator")
    resumed, _ = run(fresh, at, saved)
    assert same(fresh.state_dict(), state)
    assert measured(resumed) == measured(progress)


def test_learn_tasks_goes_on_from_the_checkpoint_before_a_failed_save():
    class Failing(Log):
        def save(self, progress, state, ended):
            if (progress.task, progress.update) == (1, 5):
                raise OSError(28, "No space left on device")
            super().save(progress, state, ended)

    log = Failing()
    with pytest.raises(OSError, match="No space left"):
        run(make_method("trust_region"), log=log)
    at, saved, _ = log.saved[-1]
    method = make_method("trust_region")
    run(method, at, saved)
    assert same(method.state_dict(), uninterrupted("trust_region", "demonstrations")[0])


def test_learn_tasks_draws_batches_by_the_seed():
    ends = []
    for seed in (0, 0, 1):
        method = make_method("finetune")
        run(method, tasks=1, settings=LoopSettings(4, 16, 10, seed, 1, Probing()))
        ends.append(method.state_dict())
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_learn_tasks_never_rolls_out_for_the_last_probe():
    """It is the beginning of the evaluation, by the weights that the probe would have met."""
    asked = []

    def counting(policy, task, n):
        asked.append((task, n))
        return evaluate(policy, task, n)

    progress, _ = run(make_method("single"), measure=counting)
    assert asked == [(0, 2), (0, 4), *3 * [(0, 2)], (1, 2), *2 * [(0, 2)], (0, 4), (1, 4)]
    assert progress.probes[-1].update == 12


def test_joint_source_holds_as_many_samples_of_each_task():
    source = JointSource([make_windows(task) for task in (0, 1)])
    batch = source.sample(9, torch.Generator().manual_seed(0))
    assert torch.bincount(batch.task).tolist() == [5, 4]
    assert len(source.sample(1, torch.Generator()).task) == 1


def test_progress_from_json_reads_what_asdict_gave():
    _, progress, _ = uninterrupted("replay", "demonstrations")
    read = Progress.from_json(json.loads(json.dumps(asdict(progress))), "manifest.json")
    assert read == progress
    assert isinstance(read.probes[0], Probe)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "1"}, "progress: task: must be a whole number, got '1'"),
        ({"probes": [{"task": 0}]}, r"progress: probes\[0\]: lacks 'while_learning'"),
        ({"done": True}, "progress: unknown 'done'"),
        ({"update": -1}, "progress contradicts itself"),
        ({"task": 2, "successes": [[[True]]]}, "progress contradicts itself"),
    ],
)
def test_progress_from_json_names_the_damaged_field(changes, said):
    with pytest.raises(ReconvergeError, match=f"^manifest.json: {said}"):
        Progress.from_json({**asdict(Progress()), **changes}, "manifest.json")


def counts(probing, learning, task, updates):
    return [u for u in range(1, updates + 1) if task in probing.due(learning, u, updates)]


def test_the_dense_grid_is_dense_early_and_ends_with_the_task():
    early = [2, 4, 6, 8, 10, 15, 20, 30, 50]
    probing = Probing(rollouts=1)
    assert counts(probing, 1, 0, 1) == [1]
    assert counts(probing, 1, 0, 2) == [2]
    assert counts(probing, 1, 0, 50) == early
    assert counts(probing, 1, 0, 2500) == [*early, 100, 200, 500, 1000, 2000, 2500]
    assert counts(probing, 1, 0, 50_000)[-6:] == [1000, 2000, 5000, 10_000, 20_000, 50_000]


def test_the_coarse_grid_is_part_of_the_dense_one():
    assert set(COARSE) < set(DENSE)
    assert counts(Probing(rollouts=1, dense=0), 1, 0, 1500) == [10, 50, 200, 1000, 1500]


def test_the_first_tasks_are_probed_densely_the_others_coarsely():
    probing = Probing(rollouts=1, dense=1)
    assert [probing.due(3, update, 100) for update in (1, 2, 10, 100)] == [
        [],
        [0],
        [0, 1, 2],
        [0, 1, 2],
    ]


@pytest.mark.parametrize(("tasks", "probed"), [(None, [0, 1]), (2, [0, 1]), (1, [0])])
def test_the_first_tasks_alone_are_probed(tasks, probed):
    assert Probing(rollouts=1, tasks=tasks).due(2, 2, 100) == probed


def test_nothing_is_probed_without_rollouts():
    assert Probing(current=1).due(2, 100, 100) == []


def test_the_current_task_is_probed_at_even_distances_to_its_end():
    probing = Probing(rollouts=1, current=5)
    assert counts(probing, 0, 0, 12) == [2, 4, 7, 9, 12]
    assert counts(probing, 3, 3, 1500) == [300, 600, 900, 1200, 1500]
    assert counts(Probing(rollouts=1, current=9), 0, 0, 3) == [1, 2, 3]
    assert counts(Probing(rollouts=1), 0, 0, 12) == []
