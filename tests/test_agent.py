import math

import numpy as np
import pytest
import torch
from tiny import SIZES, make_policy, make_windows
from tiny import make_normalizer as tiny_normalizer

from policy.agent import Batch, PolicyActor, join
from policy.checkpoint import CheckpointError
from policy.loading import PolicySpec, make_normalizer
from policy.loading import make_policy as from_spec


def observations(batch=4, task=0):
    return make_windows(task, batch).observations


def test_condition_is_the_history_its_fourier_features_and_the_task():
    policy = make_policy(fourier_octaves=2)
    seen, task = observations(), torch.tensor([0, 1, 0, 1])
    found = policy.condition(seen, task)
    entries = 2 * 3
    assert found.shape == (4, entries * (1 + 2 * 2) + 2)
    for row, history, index in zip(found, seen, task.tolist(), strict=True):
        size = SIZES[index]
        normal = torch.zeros(2, 3)
        normal[:, :size] = history[:, :size] / 2  # bounds are -2 and 2
        flat = normal.flatten().tolist()
        expected = list(flat)
        for octave in (1, 2):
            expected += [math.sin(octave * math.pi * x) for x in flat]
            expected += [math.cos(octave * math.pi * x) for x in flat]
        expected += [1.0, 0.0] if index == 0 else [0.0, 1.0]
        torch.testing.assert_close(row, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_padded_entries_say_nothing():
    policy = make_policy(fourier_octaves=1)
    seen = observations(task=1)
    filled = seen.clone()
    filled[..., SIZES[1] :] = 123.0
    task = torch.ones(4, dtype=torch.long)
    assert torch.equal(policy.condition(filled, task), policy.condition(seen, task))
    history = policy.condition(filled, task)[:, :6].view(4, 2, 3)
    assert history[..., SIZES[1] :].eq(0).all()
    assert history[..., : SIZES[1]].ne(0).any()


def test_without_task_conditioning_the_task_is_not_told():
    policy = make_policy(task_conditioning="none")
    seen = observations()
    seen[..., 2] = 0  # what the bounds of task 1 do not know
    zero, one = (policy.condition(seen, torch.full((4,), task)) for task in (0, 1))
    assert zero.shape == (4, 6)
    assert torch.equal(zero, one)
    told = make_policy()
    assert not torch.equal(*(told.condition(seen, torch.full((4,), task)) for task in (0, 1)))


def test_a_plan_follows_from_the_noise_and_stays_in_bounds():
    policy = make_policy(fourier_octaves=1)
    for parameter in policy.network.parameters():
        parameter.data *= 3
    seen, task, noise = observations(), torch.zeros(4, dtype=torch.long), torch.randn(4, 3, 2)
    plan = policy.plan(seen, task, noise)
    assert plan.shape == (4, 3, 2)
    assert plan.abs().max() <= 1
    torch.manual_seed(99)
    assert torch.equal(policy.plan(seen, task, noise), plan)
    assert not torch.equal(policy.plan(seen, task, noise + 1), plan)
    assert not plan.requires_grad


def play(actor, assignment, plans=3):
    """Chunks of every episode by seed; `assignment` maps slots to seeds, in the batch's order."""
    chunks = {seed: [] for seed in assignment.values()}
    for slot, seed in assignment.items():
        actor.begin(slot, seed)
    for step in range(plans):
        slots = list(assignment)
        history = np.stack([np.full((2, 3), 0.01 * assignment[slot] + 0.1 * step, np.float32) for slot in slots])
        for slot, chunk in zip(slots, actor.act(slots, history), strict=True):
            chunks[assignment[slot]].append(chunk)
    return {seed: np.stack(rows) for seed, rows in chunks.items()}


def test_an_episodes_noise_depends_on_its_seed_alone():
    policy = make_policy()
    together = play(PolicyActor(policy, 0), {0: 11, 1: 12, 2: 13})
    elsewhere = play(PolicyActor(policy, 0), {7: 13, 1: 11})
    again = PolicyActor(policy, 0)
    play(again, {0: 12, 1: 13})
    reused = play(again, {0: 11})  # a slot that had another episode
    assert together[11].shape == (3, 2, 2)  # the executed part of a chunk
    for other in (elsewhere, reused):
        for seed, chunks in other.items():
            np.testing.assert_array_equal(chunks, together[seed])
    same_view = PolicyActor(policy, 0)
    for slot, seed in ((0, 1), (1, 2)):
        same_view.begin(slot, seed)
    first, second = same_view.act([0, 1], np.zeros((2, 2, 3), np.float32))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize(
    ("width", "sizes", "most_threads"),
    [(256, (2, 4, 23, 7), 2), (256, (2, 4, 39, 4), 2), (96, (2, 8, 19, 7), 2), (512, (2, 4, 39, 4), 1)],
)
def test_an_episode_does_not_depend_on_its_company(width, sizes, most_threads):
    """The same chunk bit for bit, however many episodes plan together; up to the default width on two threads too.

    Wider products MKL may split between threads by their rows, unless MKL_CBWR=AUTO,STRICT is set.
    """
    history_steps, steps, observation_size, action_size = sizes
    spec = PolicySpec(
        tasks=["a"],
        network={"name": "mlp", "width": width, "depth": 3},
        diffusion={"train_steps": 100, "inference_steps": 10, "prediction": "sample"},
        observation_steps=history_steps,
        action_steps=steps,
        executed_steps=steps,
        observation_size=observation_size,
        action_size=action_size,
        task_conditioning="embedding",
        fourier_octaves=3,
    )
    torch.manual_seed(0)
    low, high = -np.ones(observation_size, np.float32), np.ones(observation_size, np.float32)
    policy = from_spec(spec, make_normalizer([(low, high)]))
    for parameter in policy.network.parameters():  # away from the zeros of the start
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    rng = np.random.default_rng(0)
    histories = rng.uniform(-1, 1, (100, history_steps, observation_size)).astype(np.float32)

    def plan(slots):
        actor = PolicyActor(policy, 0)
        for slot in slots:
            actor.begin(slot, slot)
        return actor.act(slots, histories[slots])

    threads, all_slots = torch.get_num_threads(), list(range(100))
    try:
        torch.set_num_threads(1)
        expected = plan(all_slots)
        for torch_threads in range(1, most_threads + 1):
            torch.set_num_threads(torch_threads)
            for count in (1, 2, 3, 10, 15, 16, 17, 33, 50, 100):
                slots = rng.permutation(all_slots)[:count].tolist()
                np.testing.assert_array_equal(plan(slots), expected[slots], err_msg=f"{count} on {torch_threads}")
    finally:
        torch.set_num_threads(threads)


def test_histories_of_a_smaller_task_are_padded():
    policy = make_policy()
    actors = [PolicyActor(policy, 1) for _ in range(2)]
    for actor in actors:
        actor.begin(0, 5)
    history = np.random.default_rng(0).uniform(-1, 1, (1, 2, 2)).astype(np.float32)
    padded = np.concatenate([history, np.zeros((1, 2, 1), np.float32)], axis=2)
    np.testing.assert_array_equal(actors[0].act([0], history), actors[1].act([0], padded))


def test_a_recording_actor_keeps_what_was_seen_and_planned():
    policy = make_policy()
    actor = PolicyActor(policy, 1, recording=True)
    actor.begin(4, 21)
    actor.begin(2, 22)
    history = np.random.default_rng(1).uniform(-1, 1, (2, 2, 2)).astype(np.float32)
    executed = actor.act([4, 2], history)
    actor.act([2], history[1:])
    assert {seed: len(rows) for seed, rows in actor.windows.items()} == {21: 1, 22: 2}
    window = actor.windows[22][0]
    assert window.task.tolist() == [1]
    np.testing.assert_array_equal(window.observations[0, :, :2], history[1])
    assert window.observations[0, :, 2].eq(0).all()
    assert window.actions.shape == (1, 3, 2)  # the whole chunk, not its executed part
    np.testing.assert_array_equal(window.actions[0, :2], executed[1])
    silent = PolicyActor(policy, 1)
    silent.begin(0, 1)
    silent.act([0], history[:1])
    assert silent.windows == {}


def test_batches_are_sampled_and_joined_whole():
    batch = join([make_windows(0, 3), make_windows(1, 2)])
    assert batch.task.tolist() == [0, 0, 0, 1, 1]
    drawn = batch.sample(200, torch.Generator().manual_seed(0))
    again = batch.sample(200, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.observations, again.observations)
    index = [int((batch.observations == row).all((1, 2)).nonzero()) for row in drawn.observations]
    assert set(index) == set(range(5))
    assert torch.equal(drawn.actions, batch.actions[index])
    assert torch.equal(drawn.task, batch.task[index])
    assert isinstance(drawn, Batch)


def test_bad_options():
    with pytest.raises(ValueError, match=r"unknown task_conditioning 'word'.*embedding, none"):
        make_policy(task_conditioning="word")
    with pytest.raises(ValueError, match="fourier_octaves=-1"):
        make_policy(fourier_octaves=-1)
    with pytest.raises(ValueError, match=r"executed_steps must be in 1\.\.3"):
        make_policy(steps=(2, 3, 4))
    with pytest.raises(ValueError, match=r"unknown option of network 'mlp' 'widht'.*did you mean 'width'"):
        make_policy(network={"widht": 3})


def test_the_spec_makes_the_policy_that_it_describes():
    spec = PolicySpec(
        tasks=["a", "b"],
        network={"name": "mlp", "width": 8, "depth": 2, "embedding": 4},
        diffusion={"train_steps": 7, "inference_steps": 7},
        observation_steps=2,
        action_steps=3,
        executed_steps=1,
        observation_size=3,
        action_size=2,
        task_conditioning="embedding",
        fourier_octaves=1,
    )
    policy = from_spec(spec, tiny_normalizer())
    assert len(policy.network.blocks) == 2
    assert policy.diffusion.train_steps == 7
    assert spec.network["name"] == "mlp"  # building it takes nothing from the spec
    assert policy.condition(observations(), torch.zeros(4, dtype=torch.long)).shape == (4, 6 * 3 + 2)
    assert issubclass(CheckpointError, ValueError)
