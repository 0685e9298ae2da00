"""Use a task through gymnasium: steer the gripper to the cube and close it, without any policy.

python examples/steer.py
"""

import gymnasium
import numpy as np
from gymnasium.wrappers import RecordEpisodeStatistics

import reconverge.envs  # noqa: F401  # registers the tasks

STEP = 0.05  # metres that an action of 1 moves the gripper


def steer(step: int, observation: dict[str, np.ndarray]) -> np.ndarray:
    """Move over the cube, then down to it, close the gripper there, and lift."""
    to_cube = observation["object"][:3] - observation["robot0_eef_pos"]
    if step < 20:
        to_cube[2] = 0.0
    rise = np.array([0.0, 0.0, 0.3])
    move = np.clip(to_cube / STEP, -1.0, 1.0) if step < 60 else rise
    return np.concatenate([move, np.zeros(3), [1.0 if step >= 50 else -1.0]])


if __name__ == "__main__":
    env = RecordEpisodeStatistics(gymnasium.make("reconverge/lift-v0", max_episode_steps=100))
    print(f"actions {env.action_space.shape}, observations {list(env.observation_space.spaces)}")
    for seed in range(10_000_000, 10_000_003):
        observation, _ = env.reset(seed=seed)
        for step in range(100):
            observation, _, terminated, truncated, info = env.step(steer(step, observation))
            if terminated or truncated:
                break
        print(f"seed {seed}: return {info['episode']['r']} after {info['episode']['l']} steps")
