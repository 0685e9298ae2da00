"""Boundaries that nobody tells: the detector, what is kept of a segment, and learning with both."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reconverge.errors import ReconvergeError
from reconverge.policy.continual import boundaries
from reconverge.policy.continual.boundaries import Detecting, JumpDetector, Reservoir
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.model.batch import Batch
from support.tiny import make_policy, make_setting, make_windows


def noisy(level, count, spread=0.3, seed=0):
    noise = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (level * torch.exp(spread * noise)).tolist()


def first_alarm(losses):
    detector = JumpDetector()
    return next((i for i, loss in enumerate(losses) if detector.jumped(loss)), None)


@pytest.mark.parametrize("seed", range(5))
def test_a_jump_is_found_within_a_few_updates_and_nothing_else_is(seed):
    falling = [1 / (1 + i / 20) for i in range(1000)]
    noise = noisy(1, 1000, seed=seed)
    losses = [level * factor for level, factor in zip(falling, noise, strict=True)]
    assert first_alarm(losses) is None
    assert 1000 <= first_alarm(losses + noisy(5 * falling[-1], 50, seed=seed)) < 1004


def test_nothing_is_found_while_a_segment_settles():
    assert first_alarm([1.0] * (boundaries.SETTLING - 1) + [100.0]) is None
    assert first_alarm([1.0] * boundaries.SETTLING + [100.0]) == boundaries.SETTLING


def test_the_sum_is_page_s():
    detector = JumpDetector()
    for loss in noisy(1, boundaries.SETTLING):
        detector.jumped(loss)
    mean, spread = detector.mean, math.sqrt(detector.variance)
    detector.jumped(math.exp(mean + 3 * spread))
    assert detector.sum == pytest.approx(3 - boundaries.DRIFT)
    assert detector.mean == pytest.approx(mean + boundaries.DRIFT * spread / boundaries.SPAN)


@given(st.integers(1, 40), st.lists(st.integers(1, 17), min_size=1, max_size=20))
def test_a_reservoir_holds_what_was_added_once_each(capacity, sizes):
    reservoir, stream, start = Reservoir(capacity), torch.Generator().manual_seed(1), 0
    for size in sizes:
        numbers = torch.arange(float(start), start + size)
        reservoir.add(Batch(numbers[:, None, None], numbers[:, None, None], numbers.long()), stream)
        start += size
    kept = reservoir.kept
    assert len(kept) == min(capacity, start)
    assert reservoir.added == start
    assert len(set(kept.task.tolist())) == len(kept)
    assert torch.equal(kept.observations[:, 0, 0].long(), kept.task)
    assert torch.equal(kept.actions[:, 0, 0].long(), kept.task)


def test_a_reservoir_chooses_evenly():
    counts = torch.zeros(100)
    for seed in range(400):
        reservoir, stream = Reservoir(10), torch.Generator().manual_seed(seed)
        for part in torch.arange(100.0).split(5):
            reservoir.add(Batch(part[:, None, None], part[:, None, None], part.long()), stream)
        counts[reservoir.kept.task] += 1
    chi_squared = float(((counts - 40) ** 2 / 40).sum())
    assert chi_squared < 160  # 99 degrees of freedom: 99.99 %


def make_detecting(name="trust_region", source="generator", batch_size=32, **options):
    policy = make_policy(task_conditioning="none", rows=8)
    policy.normalizer.low[:2], policy.normalizer.high[:2] = -2.0, 2.0
    policy.normalizer.fill()
    setting = make_setting(source, policy=policy, fisher="diagonal", rows=8)
    setting = dataclasses.replace(setting, batch_size=batch_size)
    return Detecting(METHODS[name](**options).build(setting), setting)


def learn_stream(method, start, stop, task, size=32):
    """Learn windows of `task` in updates `start` to `stop`; return the updates that found one."""
    windows, found = make_windows(task), []
    for update in range(start, stop):
        method.update(windows.sample(size, torch.Generator().manual_seed(update)))
        if method.noticed:
            found.append(update)
            list(method.end_segment())
    return found


REPLAYING = ("replay", "trust_region")
HOLDING = ("ewc", "online_ewc", "l2", "mas")


@pytest.mark.parametrize("name", ["finetune", *REPLAYING, *HOLDING])
def test_a_new_task_is_noticed(name):
    method = make_detecting(name)
    method.begin_task(0, 1)
    assert learn_stream(method, 0, 200, 0) == []
    assert list(method.end_task(make_windows(0))) == []
    method.begin_task(1, 1)
    assert method.segment == 0
    (found,) = learn_stream(method, 200, 230, 1)
    assert 200 <= found < 200 + boundaries.LATEST
    assert method.segment == method.learner.task == 1
    assert method.uses_replay == (name in REPLAYING)
    assert (method.learner.region is not None) == (name in ("trust_region", *HOLDING))


def test_a_segment_ends_with_its_own_windows_alone():
    method, ended = make_detecting(), []
    end_task = method.learner.end_task
    method.learner.end_task = lambda data: ended.append(data) or end_task(data)
    method.begin_task(0, 1)
    learn_stream(method, 0, 200, 0)
    learn_stream(method, 200, 230, 1)
    (kept,) = ended
    assert 180 * 32 < len(kept) <= 200 * 32
    ours = {tuple(row) for row in make_windows(0).observations.flatten(1).tolist()}
    assert {tuple(row) for row in kept.observations.flatten(1).tolist()} <= ours


def test_the_learner_hears_of_no_task_and_of_no_length():
    method = make_detecting()
    method.begin_task(0, 1)
    rates = {method.update(make_windows(i % 2))["learning_rate"] for i in range(20)}
    assert method.learner.optimization.updates is None
    assert max(rates) == method.learner.optimization.options.learning_rate
    assert method.state_dict()["segment/latest.task"].unique().tolist() == [0]


def test_every_boundary_is_noticed_and_nothing_else():
    method = make_detecting("finetune")
    method.begin_task(0, 1)
    found = [learn_stream(method, 200 * i, 200 * (i + 1), i % 2) for i in range(4)]
    assert [len(each) for each in found] == [0, 1, 1, 1]
    assert method.segment == 3


def test_what_is_known_of_earlier_segments_is_replayed():
    """Three tasks after one another: the generator ends two segments."""
    method = make_detecting("replay")
    method.begin_task(0, 1)
    for i in range(3):
        learn_stream(method, 200 * i, 200 * (i + 1), i % 2)
    assert method.segment == 2
    assert method.state_dict()["segment/latest.task"].unique().tolist() == [2]
    assert method.learner.task == 2


def test_no_more_segments_are_found_than_a_batch_holds():
    method = make_detecting("finetune", batch_size=2)
    method.begin_task(0, 1)
    found = [learn_stream(method, 200 * i, 200 * (i + 1), i % 2) for i in range(3)]
    assert [len(each) for each in found] == [0, 1, 0]


def test_nothing_is_kept_where_nothing_asks_for_it():
    method = make_detecting("finetune")
    method.begin_task(0, 1)
    learn_stream(method, 0, 20, 0)
    assert method.memory_bytes == 0


@pytest.mark.parametrize("stop", [0, 5, 215, 260])
def test_load_state_dict_goes_on_bit_for_bit(stop, monkeypatch):
    monkeypatch.setattr(boundaries, "CAPACITY", 1000)

    def go_on(method, start, end):
        learn_stream(method, start, min(end, 200), 0)
        learn_stream(method, max(start, 200), end, 1)

    method = make_detecting()
    method.begin_task(0, 1)
    go_on(method, 0, stop)
    learn_stream(method, 1000, 1003, min(1, stop // 200), size=16)  # of batches of another size
    restored = make_detecting()
    restored.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    restored.begin_task(0, 1, continued=True)
    for each in (method, restored):
        go_on(each, stop, 300)
    assert method.segment == 1
    expected, found = method.state_dict(), restored.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert method.memory_bytes == restored.memory_bytes > method.learner.memory_bytes


@pytest.mark.parametrize(
    ("name", "source", "match"),
    [
        ("packnet", "generator", r"boundaries=detected: this method is not made for it"),
        ("multitask", "generator", r"choose method=finetune, l2, ewc, online_ewc, mas, replay"),
        ("replay", "demonstrations", r"boundaries=detected: replay must know no tasks"),
    ],
)
def test_what_needs_tasks_is_refused(name, source, match):
    with pytest.raises(ReconvergeError, match=match):
        make_detecting(name, source)


def test_tasks_that_are_told_apart_are_refused():
    for policy in (make_policy(), make_policy(task_conditioning="none")):
        setting = make_setting("generator", policy=policy)
        with pytest.raises(ReconvergeError, match=r"task_conditioning=none.*bounds are the same"):
            Detecting(METHODS["replay"]().build(setting), setting)
