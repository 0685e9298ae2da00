"""Learn two tasks one after another from Python, and read what was remembered.

    python examples/train_two_tasks.py

Far too little training to solve anything; about two minutes on two cores. Without the options
below the same call learns in earnest, as `reconverge train env=lift,can` does.
"""

import reconverge

SMALL_DIFFUSION = {"num_train_timesteps": 20, "num_inference_steps": 2}
SMALL_NETWORK = {"width": 16, "depth": 1}

if __name__ == "__main__":
    summary = reconverge.train(
        env=["push", "push-back"],
        name="two",
        seed=0,
        updates_per_task=12,
        batch_size=16,
        network=SMALL_NETWORK,
        diffusion=SMALL_DIFFUSION,
        replay={"updates": 6, "pool": 32, "network": SMALL_NETWORK, "diffusion": SMALL_DIFFUSION},
        fisher={"samples": 64},
        optimizer={"warmup": 2},
        demonstrations={"episodes": 2},
        evaluation={"n_rollouts": 2, "probe_rollouts": 0, "slots": 2},
        report=False,
    )
    for learned, row in zip(summary.tasks, summary.success, strict=True):
        print(f"after learning {learned}: success {row}")
    forgetting = summary.forgetting.just_learned_without_last
    print(f"forgetting {forgetting}, backward transfer {summary.backward_transfer}")
    print("the policy is in runs/two")
