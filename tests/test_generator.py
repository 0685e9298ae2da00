import pytest
import torch
from tiny import RELATION, SIZES, make_generator, make_policy, make_windows

from policy.agent import Batch
from policy.optimization import OptimizerSettings
from policy.replay import DrawnReplay, GeneratedReplay

UPDATES = 600
CENTRE = (torch.tensor([0.6, -0.4, 0.2]), torch.tensor([-0.5, 0.3, 0.0]))


def distribution(task, count=2000):
    """A history that stands still at CENTRE + 0.2 z; the action is RELATION @ observation, or its opposite."""
    generator = torch.Generator().manual_seed(task)
    seen = CENTRE[task] + 0.2 * torch.randn((count, 1, 3), generator=generator)
    seen[..., SIZES[task] :] = 0
    actions = (1 - 2 * task) * seen @ RELATION.T
    return Batch(seen.repeat(1, 2, 1), actions.repeat(1, 3, 1), torch.full((count,), task))


def distance(batch, task):
    """How far generated windows are from the distribution: mean, spread, and the action's relation to the history."""
    size = SIZES[task]
    seen = batch.observations[..., :size]
    wanted = (1 - 2 * task) * batch.observations[:, -1:] @ RELATION.T
    return {
        "mean": float((seen.mean((0, 1)) - CENTRE[task][:size]).abs().max()),
        "spread": float((seen.std(0) / 0.2 - 1).abs().max()),
        "still": float((seen[:, 0] - seen[:, 1]).square().mean().sqrt()),
        "relation": float((batch.actions - wanted).square().mean().sqrt()),
    }


@pytest.fixture(scope="module")
def learned():
    """What a generator makes after task 0, and after task 1."""
    source = GeneratedReplay(
        make_generator(width=64, depth=2, context=32),
        OptimizerSettings(learning_rate=4e-3, warmup=10, ema_decay=0.98),
        updates=UPDATES,
        batch_size=128,
        pool=2000,
    )
    stream = torch.Generator().manual_seed(0)
    made = []
    for task in (0, 1):
        yields = list(source.end_task(task, distribution(task), stream))
        assert [entry[:2] for entry in yields] == [(i + 1, UPDATES) for i in range(UPDATES)]
        assert yields[-1][2] < 0.5 * yields[0][2]
        made.append(
            [source.windows(make_policy(), i, 1000, torch.Generator().manual_seed(5)) for i in range(task + 1)]
        )
    return made


def close(batch, task, looser=1.0):
    found = distance(batch, task)
    limits = {"mean": 0.05, "spread": 0.5, "still": 0.1, "relation": 0.1}
    assert all(found[name] < looser * limit for name, limit in limits.items()), found


def test_reproduces_the_windows_of_a_task(learned):
    (first,) = learned[0]
    assert first.observations.shape == (1000, 2, 3)
    assert first.actions.shape == (1000, 3, 2)
    assert first.task.eq(0).all()
    close(first, 0)


def test_still_makes_the_first_task_after_the_second(learned):
    first, second = learned[1]
    close(second, 1)
    close(first, 0, looser=1.5)
    assert second.task.eq(1).all()
    assert second.observations[..., SIZES[1] :].eq(0).all()  # the padding comes back as padding


def test_the_test_would_notice_other_windows():
    close(distribution(0), 0)
    for batch, task in ((distribution(0), 1), (distribution(1), 0), (make_windows(0), 0)):
        with pytest.raises(AssertionError):
            close(batch, task)


def test_without_its_own_samples_the_first_task_is_lost(learned):
    """The control of the test above: the second task alone, and the first is gone."""
    settings = OptimizerSettings(learning_rate=4e-3, warmup=10, ema_decay=0.98)
    source = GeneratedReplay(
        make_generator(width=64, depth=2, context=32), settings, updates=200, batch_size=128, pool=2000
    )
    stream = torch.Generator().manual_seed(0)
    list(source.end_task(0, distribution(0), stream))
    model, optimization = source._optimization.model, source._optimization
    model.measure(1, distribution(1), stream)
    optimization.begin(200)
    for _ in range(200):
        k = model.diffusion.draw_steps(128, stream)
        optimization.step(model.loss(distribution(1).sample(128, stream), torch.randn(128, 1, 12), k).mean())
        optimization.follow()
    lost = distance(source.windows(make_policy(), 0, 500, stream), 0)
    kept = distance(learned[1][0], 0)
    assert lost["relation"] > 4 * kept["relation"]


def measured():
    """An untrained generator that has met windows of both tasks."""
    model = make_generator()
    for task in (0, 1):
        model.measure(task, make_windows(task, 500), torch.Generator().manual_seed(0))
    return model


def test_observations_are_normalised_by_the_range_that_the_task_has():
    """An object within two centimetres of its place fills [-1, 1], and what never moves comes back as it is."""
    observations = torch.tensor([0.50, -0.3, 0.7]) + torch.tensor([0.02, 0.0, 0.0]) * torch.rand(400, 2, 3)
    windows = Batch(observations, torch.zeros(400, 3, 2), torch.zeros(400, dtype=torch.long))
    model = make_generator()
    model.measure(0, windows, torch.Generator().manual_seed(0))
    seen = model.normalizer.normalize(observations, windows.task)
    assert seen.abs().max() <= 1
    assert seen[..., 0].min() < -0.8
    assert seen[..., 0].max() > 0.8
    made = model.generate(0, 50, torch.Generator().manual_seed(1)).observations
    assert (made[..., 1] + 0.3).abs().max() < 0.01
    with pytest.raises(ValueError, match="task 1 has no declared bounds"):
        model.generate(1, 5, torch.Generator())


def test_generation_follows_from_the_generator_alone():
    model = measured()
    first, again, other = (model.generate(1, 7, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first.observations, again.observations)
    assert torch.equal(first.actions, again.actions)
    assert not torch.equal(first.actions, other.actions)
    assert len(model.generate(0, 5, torch.Generator().manual_seed(0), batch_size=2)) == 5
    assert first.observations.abs().max() <= 2  # observations in their own units, within the declared bounds


def test_the_loss_is_over_the_whole_normalised_window():
    model, batch = measured(), make_windows(0, 4)
    k, noise = torch.full((4,), 19), torch.randn(4, 1, 12)
    seen = model.normalizer.normalize(batch.observations, batch.task)
    row = torch.cat([seen.flatten(1), batch.actions.flatten(1)], dim=1)[:, None]
    noisy = model.diffusion.add_noise(row, noise, k)
    told = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    expected = (model.network(noisy, k, told) - row).square().mean((1, 2))
    torch.testing.assert_close(model.loss(batch, noise, k), expected)


def test_the_last_windows_are_taught():
    model, teacher, batch = measured(), measured(), make_windows(0, 4)
    for parameter in teacher.network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    k, noise = torch.full((4,), 9), torch.randn(4, 1, 12)
    plain, taught = model.loss(batch, noise, k), model.loss(batch, noise, k, teacher, taught=1)
    torch.testing.assert_close(taught[:3], plain[:3])
    assert not torch.allclose(taught[3:], plain[3:])
    itself = model.loss(batch, noise, k, model, taught=4)
    torch.testing.assert_close(itself, torch.zeros(4))


def test_the_generator_learns_from_the_windows_that_the_policy_rehearsed_on(monkeypatch):
    source = GeneratedReplay(make_generator(), OptimizerSettings(), updates=2, batch_size=16, pool=8)
    stream = torch.Generator().manual_seed(0)
    list(source.end_task(0, make_windows(0), stream))
    rehearsed, drawn = source.windows(make_policy(), 0, 8, stream), []
    sample = Batch.sample
    monkeypatch.setattr(Batch, "sample", lambda self, *rest: drawn.append(self) or sample(self, *rest))
    list(source.end_task(1, make_windows(1), stream))
    assert any(torch.equal(batch.observations, rehearsed.observations) for batch in drawn)
    assert not source._drawn  # the generator is another now
    monkeypatch.undo()
    source.windows(make_policy(), 0, 8, stream)
    source.load_state_dict({name: value.clone() for name, value in source.state_dict().items()})
    assert not source._drawn


def test_state_restores_the_source():
    def make():
        return GeneratedReplay(make_generator(), OptimizerSettings(), updates=4, batch_size=16, pool=8)

    source, other = make(), make()
    list(source.end_task(0, make_windows(0), torch.Generator().manual_seed(0)))
    other.load_state_dict({name: value.clone() for name, value in source.state_dict().items()})
    made = [s.windows(make_policy(), 0, 9, torch.Generator().manual_seed(1)) for s in (source, other)]
    assert torch.equal(made[0].observations, made[1].observations)
    assert torch.equal(made[0].actions, made[1].actions)
    with pytest.raises(ValueError, match="task 0 has no declared bounds"):
        make().windows(make_policy(), 0, 9, torch.Generator())


def test_drawn_replay_passes_on_what_is_asked():
    asked = []

    def draw(teacher, task, count, generator):
        asked.append((teacher, task, count))
        return make_windows(task, count)

    source, stream = DrawnReplay(draw), torch.Generator()
    teacher = make_policy()
    assert len(source.windows(teacher, 1, 6, stream)) == 6
    assert asked == [(teacher, 1, 6)]
    assert list(source.end_task(0, make_windows(0), stream)) == []
    assert source.state_dict() == {}
