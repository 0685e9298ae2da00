"""Act with a trained policy: first in evaluation episodes, then step by step in one of them.

python examples/act.py runs/two push
"""

import sys

import numpy as np

import reconverge

SEEDS = range(10_000_000, 10_000_004)  # of no demonstration

if __name__ == "__main__":
    run, name = sys.argv[1:]
    loaded = reconverge.load_policy(run)
    task = loaded.task(name)

    (result,) = reconverge.evaluate(loaded, [task], SEEDS, slots=2)
    low, high = result.interval
    print(f"{name}: success {result.success} ({low:.2f} to {high:.2f}) in {len(SEEDS)} episodes")

    env = reconverge.VectorEnv(task, slots=1)
    actor = loaded.actor(task)
    actor.begin(0, seed=SEEDS[0])  # the seed of the noise that sampling starts from
    observation = env.reset([0], [SEEDS[0]])
    history = np.repeat(observation[:, None], actor.n_obs_steps, axis=1)  # [1, To, Do]
    steps, success = 0, False
    while steps < task.max_steps and not success:
        (chunk,) = actor.act([0], history)  # [Ta, Da]
        for action in chunk:
            observation, (success,), _ = env.step([0], action[None])
            history = np.concatenate([history[:, 1:], observation[:, None]], axis=1)
            steps += 1
    env.close()
    print(f"step by step: {'solved' if success else 'not solved'} after {steps} steps")
