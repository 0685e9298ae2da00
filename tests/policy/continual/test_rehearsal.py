"""Where samples of earlier tasks come from: a generator trained continually, or drawn."""

import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import corrupt, errors
from reconverge.policy.continual.optimization import Optimization, OptimizerOptions
from reconverge.policy.continual.rehearsal import (
    Budget,
    DrawnReplay,
    EpisodicMemory,
    GeneratedReplay,
    Replay,
    required,
)
from reconverge.policy.model.batch import Batch
from support.tiny import RELATION, SIZES, Episodes, make_generator, make_policy, make_windows
from support.typecheck import unchecked

UPDATES = 600
CENTRE = (torch.tensor([0.6, -0.4, 0.2]), torch.tensor([-0.5, 0.3, 0.0]))


def distribution(task, count=2000):
    """A history that stands still at CENTRE + 0.2 z; the action is RELATION @ observation, or its
    opposite.
    """
    generator = torch.Generator().manual_seed(task)
    seen = CENTRE[task] + 0.2 * torch.randn((count, 1, 3), generator=generator)
    seen[..., SIZES[task] :] = 0
    actions = (1 - 2 * task) * seen @ RELATION.T
    return Batch(seen.repeat(1, 2, 1), actions.repeat(1, 3, 1), torch.full((count,), task))


def distance(batch, task):
    """Return how far windows are from the distribution: mean, spread, relation of the action."""
    size = SIZES[task]
    seen = batch.observations[..., :size]
    wanted = (1 - 2 * task) * batch.observations[:, -1:] @ RELATION.T
    return {
        "mean": float((seen.mean((0, 1)) - CENTRE[task][:size]).abs().max()),
        "spread": float((seen.std(0) / 0.2 - 1).abs().max()),
        "still": float((seen[:, 0] - seen[:, 1]).square().mean().sqrt()),
        "relation": float((batch.actions - wanted).square().mean().sqrt()),
    }


def make_large():
    """A generator that can learn the distributions, and how it is trained."""
    options = OptimizerOptions(4e-3, warmup=10, ema_decay=0.98, precision="float32")
    return make_generator(width=64, depth=2, context=32), options


@pytest.fixture(scope="module")
def learned():
    """Samples of a generator after task 0, and after task 1."""
    source = GeneratedReplay(*make_large(), updates=UPDATES, batch_size=128, pool=2000)
    stream = torch.Generator().manual_seed(0)
    made = []
    for task in (0, 1):
        with unchecked():
            yields = list(source.end_task(task, distribution(task), stream))
        assert [entry[:2] for entry in yields] == [(i + 1, UPDATES) for i in range(UPDATES)]
        assert yields[-1][2] < 0.5 * yields[0][2]
        made.append(
            [
                source.draw(make_policy(), i, 1000, torch.Generator().manual_seed(5))
                for i in range(task + 1)
            ]
        )
    return made


def close(batch, task, looser=1.0):
    found = distance(batch, task)
    limits = {"mean": 0.05, "spread": 0.5, "still": 0.1, "relation": 0.1}
    assert all(found[name] < looser * limit for name, limit in limits.items()), found


def test_draw_reproduces_the_windows_of_a_task(learned):
    (first,) = learned[0]
    assert first.observations.shape == (1000, 2, 3)
    assert first.actions.shape == (1000, 3, 2)
    assert first.task.eq(0).all()
    close(first, 0)


def test_draw_still_makes_the_first_task_after_the_second(learned):
    first, second = learned[1]
    close(second, 1)
    close(first, 0, looser=1.5)
    assert second.task.eq(1).all()
    assert second.observations[..., SIZES[1] :].eq(0).all()  # the padding comes back as padding


def test_close_notices_other_windows():
    close(distribution(0), 0)
    for batch, task in ((distribution(0), 1), (distribution(1), 0), (make_windows(0), 0)):
        with pytest.raises(AssertionError):
            close(batch, task)


def test_draw_without_replay_of_its_own_loses_the_first_task(learned):
    """The control: the same generator, trained on the data of each task alone."""
    optimization, stream = Optimization(*make_large()), torch.Generator().manual_seed(0)
    for task in (0, 1):
        optimization.model.measure(task, distribution(task), stream)
        optimization.begin(200)
        for _ in range(200):
            batch = distribution(task).sample(128, stream)
            sample = corrupt(optimization.model, batch, stream)
            optimization.step(errors(optimization.model, sample).mean())
            optimization.follow()
    lost = distance(optimization.average.generate(0, 500, stream), 0)
    kept = distance(learned[1][0], 0)
    assert lost["relation"] > 4 * kept["relation"]
    assert distance(optimization.average.generate(1, 500, stream), 1)["relation"] < 0.1


def make_small():
    return GeneratedReplay(make_generator(), OptimizerOptions(), updates=4, batch_size=16, pool=8)


def state_of(source):
    return {name: value.clone() for name, value in source.state_dict().items()}


def test_end_task_learns_from_the_windows_that_the_policy_rehearsed_on(monkeypatch):
    source, stream = make_small(), torch.Generator().manual_seed(0)
    list(source.end_task(0, make_windows(0), stream))
    rehearsed, drawn = source.draw(make_policy(), 0, 8, stream), []
    sample = Batch.sample
    monkeypatch.setattr(
        Batch, "sample", lambda self, *rest: drawn.append(self) or sample(self, *rest)
    )

    def uses_what_was_rehearsed():
        drawn.clear()
        list(source.end_task(1, make_windows(1), stream))
        return any(torch.equal(batch.observations, rehearsed.observations) for batch in drawn)

    assert uses_what_was_rehearsed()
    assert not uses_what_was_rehearsed()  # another generator would draw others


def test_end_task_fills_its_batches_with_the_new_task(monkeypatch):
    """Seventeen are no equal shares of two tasks."""
    options, sizes, sample = OptimizerOptions(), [], Batch.sample
    source = GeneratedReplay(make_generator(), options, updates=1, batch_size=17, pool=8)
    list(source.end_task(0, make_windows(0), torch.Generator().manual_seed(0)))

    def counted(self, size, generator):
        sizes.append((int(self.task[0]), size))
        return sample(self, size, generator)

    monkeypatch.setattr(Batch, "sample", counted)
    list(source.end_task(1, make_windows(1), torch.Generator().manual_seed(0)))
    assert sizes[-2:] == [(1, 9), (0, 8)]


def test_load_state_dict_restores_the_source():
    source, other = make_small(), make_small()
    list(source.end_task(0, make_windows(0), torch.Generator().manual_seed(0)))
    other.load_state_dict(state_of(source))
    made = [s.draw(make_policy(), 0, 9, torch.Generator().manual_seed(1)) for s in (source, other)]
    assert torch.equal(made[0].observations, made[1].observations)
    assert torch.equal(made[0].actions, made[1].actions)
    with pytest.raises(ValueError, match="task 0 has no declared bounds"):
        make_small().draw(make_policy(), 0, 9, torch.Generator())


def test_load_state_dict_drops_the_windows_drawn_before():
    used, fresh = make_small(), make_small()
    list(used.end_task(0, make_windows(0), torch.Generator().manual_seed(0)))
    state = state_of(used)
    used.draw(make_policy(), 0, 8, torch.Generator().manual_seed(1))
    for source in (used, fresh):
        source.load_state_dict(state)
        list(source.end_task(1, make_windows(1), torch.Generator().manual_seed(2)))
    assert all(torch.equal(value, fresh.state_dict()[k]) for k, value in used.state_dict().items())


def test_drawn_replay_draws_what_is_asked():
    asked = []

    def draw(teacher, task, count, generator):
        asked.append((teacher, task, count))
        return make_windows(task, count)

    source, stream = DrawnReplay(draw), torch.Generator()
    teacher = make_policy()
    assert len(source.draw(teacher, 1, 6, stream)) == 6
    assert asked == [(teacher, 1, 6)]
    assert list(source.end_task(0, make_windows(0), stream)) == []
    assert source.state_dict() == {}


@pytest.mark.parametrize(("unit", "size"), [("episodes", 999), ("bytes", 1)])
def test_budget_shares_equally_and_only_drops_as_tasks_come(unit, size):
    budget, sizes, before = Budget(50, unit, seed=1), torch.full((40,), size), {}
    for tasks in range(1, 12):
        kept = [set(budget.keep(task, tasks, sizes).tolist()) for task in range(tasks)]
        counts = [len(episodes) for episodes in kept]
        assert sum(counts) == (40 if tasks == 1 else 50)
        assert max(counts) - min(counts) <= 1
        assert all(kept[task] <= episodes for task, episodes in before.items())
        before = dict(enumerate(kept))


def test_budget_in_bytes_keeps_whole_episodes_up_to_its_share():
    sizes = torch.arange(10, 50)
    for task in range(3):
        kept = Budget(600, "bytes", seed=0).keep(task, 3, sizes)
        assert 200 - 49 < int(sizes[kept].sum()) <= 200


def test_budget_keeps_other_episodes_with_another_seed_or_task():
    sizes = torch.ones(100, dtype=torch.int64)
    kept = [
        Budget(20, "episodes", seed).keep(task, 2, sizes).tolist()
        for seed, task in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert kept[0] == kept[1]
    assert kept[0] not in kept[2:]


@pytest.mark.parametrize(("unit", "sizes"), [("episodes", [90, 70]), ("bytes", [90, 70, 80])])
def test_check_names_the_least_budget_that_keeps_an_episode_of_each_task(unit, sizes):
    each = [torch.tensor([size]) for size in sizes]
    least = {"episodes": 2, "bytes": 3 * 89 + 1}[unit]
    with pytest.raises(ReconvergeError, match=f"budget={least - 1} {unit}: .* at least {least},"):
        Budget(least - 1, unit, seed=0).check(each)
    budget = Budget(least, unit, seed=0)
    budget.check(each)
    assert all(len(budget.keep(i, len(each), each[i])) for i in range(len(each)))
    Budget(None, unit, seed=0).check(each)


def test_episodic_memory_keeps_and_counts_the_tasks_learned():
    memory, stream = EpisodicMemory(Episodes, Budget(5, "episodes", seed=2)), torch.Generator()
    assert memory.memory_bytes == 0
    for task, kept in ((0, [5]), (1, [3, 2])):
        assert list(memory.end_task(task, make_windows(task), stream)) == []
        assert [len(memory.kept(i).numbers) for i in range(task + 1)] == kept
        assert memory.memory_bytes == 5 * 1000
    first = memory.kept(0)
    drawn = memory.draw(make_policy(), 0, 400, stream.manual_seed(0))
    whole = make_windows(0).observations.flatten(1)
    found = [int((whole == row).all(1).nonzero()) for row in drawn.observations.flatten(1)]
    assert {row // 50 for row in found} == set(first.numbers)
    other = EpisodicMemory(Episodes, memory.budget)
    other.load_state_dict(memory.state_dict())
    assert other.kept(0).numbers == first.numbers


def test_episodic_memory_without_a_budget_keeps_everything():
    memory = EpisodicMemory(Episodes, Budget(None, "episodes", seed=2))
    list(memory.end_task(0, make_windows(0), torch.Generator()))
    assert len(memory.kept(0).numbers) == 8
    assert memory.memory_bytes == 8 * 1000


def test_required_refuses_a_method_without_its_replay():
    replay = Replay(make_small(), batch_size=4, pool=8)
    assert required(replay, "replay") is replay
    with pytest.raises(ReconvergeError, match="method=ftml replay=none would replay nothing"):
        required(None, "ftml")
