"""Disjoint ranges of episode seeds. Scripted experts were tuned on 1,000,000 to 5,000,399,
those of LIBERO on demonstration seeds, too."""

DEMONSTRATION = range(0, 1_000_000)
EVALUATION = range(10_000_000, 11_000_000)
SELECTION = range(20_000_000, 21_000_000)
MEASUREMENT = {"evaluation": EVALUATION, "selection": SELECTION}  # by evaluation.seeds
REPLAY = range(30_000_000, 31_000_000)  # rollouts of the previous policy (replay=rollout)
