"""The actor of a rollout: noise by seed, batches of any size, recorded windows."""

import numpy as np
import pytest
import torch

from reconverge.policy.model.actor import PolicyActor
from reconverge.policy.runs.loading import PolicySpec, make_normalizer
from reconverge.policy.runs.loading import make_policy as from_spec
from support.tiny import make_policy


def play(actor, assignment, plans=3):
    """Chunks of every episode by seed; `assignment` maps slots to seeds, in the batch's order."""
    chunks = {seed: [] for seed in assignment.values()}
    for slot, seed in assignment.items():
        actor.begin(slot, seed)
    for step in range(plans):
        slots = list(assignment)
        history = np.stack(
            [np.full((2, 3), 0.01 * assignment[slot] + 0.1 * step, np.float32) for slot in slots]
        )
        for slot, chunk in zip(slots, actor.act(slots, history), strict=True):
            chunks[assignment[slot]].append(chunk)
    return {seed: np.stack(rows) for seed, rows in chunks.items()}


def test_act_draws_noise_that_depends_on_the_seed_alone():
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
    [
        (256, (2, 4, 23, 7), 2),
        (256, (2, 4, 39, 4), 2),
        (96, (2, 8, 19, 7), 2),
        (512, (2, 4, 39, 4), 1),
    ],
)
def test_act_does_not_depend_on_the_episodes_beside(width, sizes, most_threads):
    """The same chunk bit for bit, however many episodes plan together; up to the default width on
    two threads too.

    Wider products MKL may split between threads by their rows, unless MKL_CBWR=AUTO,STRICT is set.
    """
    history_steps, steps, observation_size, action_size = sizes
    spec = PolicySpec(
        tasks=["a"],
        network={"name": "mlp", "width": width, "depth": 3},
        diffusion={
            "num_train_timesteps": 100,
            "num_inference_steps": 10,
            "prediction_type": "sample",
        },
        n_obs_steps=history_steps,
        horizon=steps,
        n_action_steps=steps,
        observation_size=observation_size,
        action_size=action_size,
        task_conditioning="embedding",
        fourier_octaves=3,
    )
    torch.manual_seed(0)
    low, high = -np.ones(observation_size, np.float32), np.ones(observation_size, np.float32)
    normalizer = make_normalizer(spec, [])
    normalizer.set_task(0, low, high)
    policy = from_spec(spec, normalizer)
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
                np.testing.assert_array_equal(
                    plan(slots), expected[slots], err_msg=f"{count} on {torch_threads}"
                )
    finally:
        torch.set_num_threads(threads)


def test_act_draws_no_noise_from_what_the_start_was_drawn_from(monkeypatch):
    policy, drawn = make_policy(), []
    monkeypatch.setattr(policy, "plan", lambda seen, task, noise: drawn.append(noise) or noise)
    actor = PolicyActor(policy, 0)
    actor.begin(0, 5)
    actor.act([0], np.zeros((1, 2, 3), np.float32))
    start = np.random.default_rng(5).standard_normal((3, 2), dtype=np.float32)
    assert not np.isin(drawn[0][0].numpy(), start).any()


def test_act_pads_the_histories_of_a_smaller_task():
    policy = make_policy()
    actors = [PolicyActor(policy, 1) for _ in range(2)]
    for actor in actors:
        actor.begin(0, 5)
    history = np.random.default_rng(0).uniform(-1, 1, (1, 2, 2)).astype(np.float32)
    padded = np.concatenate([history, np.zeros((1, 2, 1), np.float32)], axis=2)
    np.testing.assert_array_equal(actors[0].act([0], history), actors[1].act([0], padded))


def test_act_records_observations_and_plans():
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


def test_act_gives_a_task_with_smaller_actions_its_own_numbers():
    policy = make_policy(action_sizes=(2, 1))
    for task, size in enumerate((2, 1)):
        actor = PolicyActor(policy, task, recording=True)
        actor.begin(0, 5)
        executed = actor.act([0], np.zeros((1, 2, 3), np.float32))
        assert executed.shape == (1, 2, size)
        (window,) = actor.windows[5]
        assert window.actions.shape == (1, 3, 2)  # padded, as the policy learns from it
        np.testing.assert_array_equal(window.actions[:, :2, :size], executed)
        assert not window.actions[..., size:].any()
