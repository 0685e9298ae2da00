import copy
from functools import cache

import pytest
import torch
from tiny import make_method, make_policy, make_windows

from policy.agent import DiffusionPolicy
from policy.methods import METHODS
from policy.training import LoopSettings, Progress, TaskWindows, train

SETTINGS = LoopSettings(updates_per_task=12, batch_size=16, checkpoint_every=5, seed=0)
REPLAYING = {"replay", "trust_region"}
CASES = [(name, source) for name in METHODS for source in ("generator", "demonstrations")]
CHECKPOINTS = [(0, 5), (0, 10), (0, 12), (1, 0), (1, 5), (1, 10), (1, 12), (2, 0)]  # task, update


class Log:
    """Keeps what the loop tells its observer."""

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


def evaluate(policy, task):
    """A stand-in for rollouts that notices any change of the weights."""
    total = sum(float(p.double().abs().sum()) for p in policy.parameters())
    return [bool(int(total * 1e6 * (i + 1)) % 2) for i in range(task + 3)]


def run(method, progress=None, state=None, *, probe=evaluate, tasks=2, settings=SETTINGS, log=None):
    log = log or Log()
    windows = [lambda task=task: make_windows(task) for task in range(tasks)]
    progress = progress if progress is not None else Progress()
    train(method, windows, evaluate, probe, log, settings, progress, state)
    return progress, log


@cache
def uninterrupted(name, source):
    method = make_method(name, source)
    progress, log = run(method)
    return method.state_dict(), progress, log


def measured(progress):
    return progress.task, progress.update, progress.successes, progress.probes


def test_tasks_are_learned_probed_evaluated_and_saved_in_order():
    _, _, log = uninterrupted("trust_region", "generator")
    first = [("update", 0, i) for i in range(1, 13)]
    for after, update in ((5, 5), (11, 10), (14, 12)):
        first.insert(after, ("save", 0, update))
    first += [("generator", 0, i) for i in range(1, 6)] + [("end", 0, 1), ("save", 1, 0)]
    assert log.events[: len(first)] == first
    second = log.events[len(first) :]
    assert [e[2] for e in second if e[0] == "update"] == list(range(1, 13))
    assert [e[2] for e in second if e[0] == "probe"] == [2, 4, 6, 8, 10, 12]
    assert [e[1:] for e in second if e[0] == "save"] == [(1, 5), (1, 10), (1, 12), (2, 0)]
    assert second.index(("probe", 1, 10)) < second.index(("save", 1, 10))  # a checkpoint has its update's probe
    assert second[-2:] == [("end", 1, 2), ("save", 2, 0)]
    assert not any(e[0] == "generator" for e in second)
    assert [(p.task, p.update) for p, _, _ in log.saved] == CHECKPOINTS
    assert [ended for _, _, ended in log.saved] == [False, False, False, True, False, False, False, True]


def test_every_task_seen_is_measured():
    _, progress, _ = uninterrupted("replay", "demonstrations")
    assert [[len(successes) for successes in row] for row in progress.successes] == [[3], [3, 4]]
    assert [(p["while_learning"], p["task"], p["update"]) for p in progress.probes] == [
        (1, 0, update) for update in (2, 4, 6, 8, 10, 12)
    ]
    assert (progress.task, progress.update) == (2, 0)
    assert progress.training_seconds > 0
    assert progress.evaluation_seconds > 0
    # The last probe and the evaluation see the same weights.
    assert progress.probes[-1]["successes"] == progress.successes[1][0]


def test_without_a_probe_none_is_made():
    progress, log = run(make_method("finetune"), probe=None)
    assert progress.probes == []
    assert not any(e[0] == "probe" for e in log.events)
    assert len(progress.successes) == 2


def test_probes_do_not_disturb_the_learning():
    alone, probed = make_method("replay"), make_method("replay")

    def noisy(policy, task):
        torch.rand(3)
        return evaluate(policy, task)

    run(alone, probe=None)
    run(probed, probe=noisy)
    assert same(alone.state_dict(), probed.state_dict())


def same(state, other):
    assert state.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in state.items())


@pytest.mark.parametrize(("name", "source"), CASES)
@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda c: f"task{c[0]}-update{c[1]}")
def test_resumed_at_any_checkpoint_the_run_ends_the_same(name, source, checkpoint):
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


@pytest.mark.parametrize("update", [3, 17])
def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(monkeypatch, update):
    state, progress, _ = uninterrupted("replay", "generator")
    method, log = make_method("replay", "generator"), Log()
    step = method._optimization.step
    calls = []

    def poisoned(loss):
        calls.append(1)
        return step(loss * float("nan") if len(calls) == update else loss)

    monkeypatch.setattr(method._optimization, "step", poisoned)
    reached = Progress()
    with pytest.raises(FloatingPointError, match=f"nan at update {(update - 1) % 12}"):
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


def test_an_interrupted_save_leaves_the_progress_of_the_one_before():
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


def test_the_seed_decides_the_batches():
    ends = []
    for seed in (0, 0, 1):
        method = make_method("finetune")
        run(method, tasks=1, settings=LoopSettings(4, 16, 10, seed))
        ends.append(method.state_dict())
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_windows_of_a_store_become_batches_of_their_task():
    import numpy as np

    from datasets.windows import Windows

    steps = np.arange(5, dtype=np.float32)
    rows = np.stack([steps, -steps, 0 * steps], axis=1)
    windows = Windows.from_episodes(rows, rows[:, :2], np.array([2, 5]), 2, 3)
    batch = TaskWindows(windows, 1).sample(30, torch.Generator().manual_seed(0))
    assert batch.task.eq(1).all()
    assert batch.observations.shape == (30, 2, 3)
    now = batch.observations[:, -1, 0]
    assert set(now.tolist()) == {0, 1, 2, 3, 4}
    assert torch.equal(batch.actions[:, 0, 0], now)
    assert isinstance(make_method("finetune").policy, DiffusionPolicy)
