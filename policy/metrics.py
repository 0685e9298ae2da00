"""Success matrices, forgetting, transfer, recovery and intervals.

R [K, K] is the success rate of task j (column) after learning task i (row); entries not measured are NaN
(None is read as NaN). A result without its entries is None.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

Matrix = Float[np.ndarray, "K K"]
FRACTIONS = (0.99, 0.9, 0.8)
"""Shares of the success just after learning whose recovery is reported."""


def success_matrix(rows: Sequence[Sequence[float | None]]) -> Matrix:
    """A square matrix from rows that may be shorter than K or hold None: the rest becomes NaN."""
    matrix = np.full((len(rows), len(rows)), np.nan)
    for i, row in enumerate(rows):
        if len(row) > len(rows):
            raise ValueError(f"row {i} has {len(row)} entries: at most {len(rows)}, one a task")
        matrix[i, : len(row)] = [np.nan if value is None else value for value in row]
    return matrix


def average_success(R: Matrix) -> float | None:
    """Mean over the tasks of the success after the last one."""
    return _mean(R[-1])


def just_learned_all(R: Matrix) -> float | None:
    """Forgetting: mean over all tasks of R[i, i] - R[K-1, i]; the last counts 0. arXiv 2602.02417."""
    return _mean(np.diag(R) - R[-1])


def just_learned_without_last(R: Matrix) -> float | None:
    """Forgetting: mean over i < K-1 of R[i, i] - R[K-1, i]."""
    return _mean((np.diag(R) - R[-1])[:-1])


def max_without_last(R: Matrix) -> float | None:
    """Forgetting: mean over i < K-1 of max_j R[j, i] - R[K-1, i], over the rows measured."""
    earlier = R[:, :-1]
    if np.isnan(earlier).all(axis=0).any():
        return None
    return _mean(np.nanmax(earlier, axis=0) - earlier[-1])


def backward_transfer(R: Matrix) -> float | None:
    """Mean over i < K-1 of R[K-1, i] - R[i, i]."""
    return _mean((R[-1] - np.diag(R))[:-1])


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success rate from n independent rollouts."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes of {n}: give 0 <= successes <= n and n >= 1")
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def average_success_interval(R: Matrix, n_rollouts: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Wilson's interval of average_success for one policy, n_rollouts a task.

    It pools the rollouts, which is wider than needed where the tasks' rates differ.
    """
    average = average_success(R)
    if average is None:
        return None
    n = n_rollouts * len(R)
    return wilson(round(average * n), n, confidence)


def combination_interval(
    weights: Sequence[float], rates: Sequence[float], rollouts: Sequence[int], confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of sum_i weights_i p_i, each rate from its own independent rollouts; wide where they share seeds.

    Newcombe's for a difference, from Wilson's of every rate, for any number of terms (Zou and Donner, Statistics in
    Medicine 27, 2008).
    """
    bounds = np.array([wilson(round(rate * n), n, confidence) for rate, n in zip(rates, rollouts, strict=True)])
    terms, ends = np.multiply(weights, rates), bounds * np.array(weights)[:, None]
    below, above = terms - ends.min(axis=1), ends.max(axis=1) - terms
    estimate = terms.sum()
    return float(estimate - np.linalg.norm(below)), float(estimate + np.linalg.norm(above))


def bootstrap(
    values: Float[np.ndarray, "seeds"],
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 10_000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over seeds; too narrow for few seeds."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values {values.tolist()}: give one finite number a seed, of at least 2 seeds")
    interval = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, confidence_level=confidence, method="percentile",
        rng=generator,
    ).confidence_interval  # fmt: skip
    return float(interval.low), float(interval.high)


def probe_grid(updates_per_task: int) -> list[int]:
    """Update counts at which recovery is probed, dense early, ending with updates_per_task itself."""
    if updates_per_task < 1:
        raise ValueError(f"updates_per_task={updates_per_task}: give at least 1")
    grid = [2, 4, 6, 8, 10, 15, 20, 30, 50]
    decade = 100
    while decade < updates_per_task:
        grid += [decade, 2 * decade, 5 * decade]
        decade *= 10
    return [count for count in grid if count < updates_per_task] + [updates_per_task]


@dataclass(frozen=True)
class Recovery:
    """Updates until a task was back at `target` of its success just after it was learned.

    0: no probe found it below. Fallen below and never back: `updates` is None and `censored_at` the last count
    probed. Both are None where nothing can be said: no probe, or no success to come back to. `first_reached` is the
    first count whose probe was at the target, whatever came before or after: the simpler definition, by which a task
    that is forgotten slowly has "recovered" at the first probe.
    """

    target: float
    updates: int | None
    censored_at: int | None
    first_reached: int | None


def recovery(
    counts: Sequence[int],
    rates: Sequence[float | None],
    just_learned: float | None,
    fractions: Sequence[float] = FRACTIONS,
) -> list[Recovery]:
    """When each fraction of `just_learned` is reached again along a probe curve; None or NaN is no probe.

    Counted from the first probe below the fraction: the first probes after a transition find a policy that has hardly
    moved yet, and it is not their success that says how fast a task comes back.
    """
    probes = [
        (count, rate) for count, rate in zip(counts, rates, strict=True) if rate is not None and not math.isnan(rate)
    ]
    if probes != sorted(probes, key=lambda probe: probe[0]):
        raise ValueError(f"update counts {list(counts)}: give them in increasing order")
    if not probes or just_learned is None or not just_learned > 0:
        return [Recovery(fraction, None, None, None) for fraction in fractions]
    return [_first_reach(probes, fraction, just_learned) for fraction in fractions]


def _first_reach(probes: list[tuple[int, float]], fraction: float, just_learned: float) -> Recovery:
    threshold = fraction * just_learned - 1e-9  # a rate equal to the product must not fall to its rounding
    first = next((count for count, rate in probes if rate >= threshold), None)
    fallen = next((i for i, (_, rate) in enumerate(probes) if rate < threshold), None)
    if fallen is None:
        return Recovery(fraction, 0, None, first)
    reached = next((count for count, rate in probes[fallen:] if rate >= threshold), None)
    return Recovery(fraction, reached, probes[-1][0] if reached is None else None, first)


def _mean(terms: Float[np.ndarray, "n"]) -> float | None:
    """None where there is no term or one is missing: a mean over other tasks is another quantity."""
    return None if len(terms) == 0 or np.isnan(terms).any() else float(terms.mean())
