"""Episodes of experts, and resets of robosuite's own environments, as several tests need them."""

import numpy as np


def reset_reference(reference, seed):
    """robosuite's own reset, all of its random numbers from `seed`."""
    initializer = reference.placement_initializer
    reference.rng = np.random.default_rng(seed)
    for sampler in getattr(initializer, "samplers", {"": initializer}).values():
        sampler.rng = reference.rng
    reference.reset()


def play(simulator, seed):
    """States of an expert's episode, until it succeeds, with the action taken in each."""
    task = simulator.task
    expert, episode = task.expert(simulator.landmarks), simulator.new_episode()
    simulator.reset(episode, seed)
    for _ in range(task.max_steps):
        action = expert.act(task.split(simulator.observe([episode])[0]))
        yield episode, action
        if simulator.success(episode):
            return
        simulator.step(episode, action)


def record(simulator, seed):
    """An expert's episode: observations, actions in the base frame, and the states before them."""
    observations, actions, states = [], [], []
    for episode, action in play(simulator, seed):
        observations.append(simulator.observe([episode])[0])
        actions.append(action)
        states.append(np.concatenate([[0.0], episode.data.qpos, episode.data.qvel]))
    return np.stack(observations[:-1]), np.stack(actions[:-1]), np.stack(states[:-1])


def to_world(actions, rotation):
    """Pose changes in the base frame, as seen from the world."""
    return np.concatenate(
        [actions[:, :3] @ rotation.T, actions[:, 3:6] @ rotation.T, actions[:, 6:]], axis=1
    )
