"""Seeds of episodes, in ranges that never meet: demonstrations, evaluation, and the selection of settings."""

DEMONSTRATION = range(0, 1_000_000)
EVALUATION = range(1_000_000, 2_000_000)
SELECTION = range(2_000_000, 3_000_000)
REPLAY = range(3_000_000, 4_000_000)  # rollouts of the previous policy (replay=rollout)
