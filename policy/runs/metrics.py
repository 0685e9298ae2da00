"""Measure success, forgetting, transfer and recovery, with intervals.

R [K, K] is the success rate of task j (column) after learning task i (row); entries not measured
are NaN (None is read as NaN). A result without its entries is None.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy  # its parts load where they are first used
from jaxtyping import Float

Matrix = Float[np.ndarray, "K K"]
FRACTIONS = (0.99, 0.9, 0.8)
"""Shares of the success just after learning whose recovery is reported."""


def success_matrix(rows: Sequence[Sequence[float | None]]) -> Matrix:
    """Return R from rows that may be shorter than K or hold None: these entries become NaN."""
    matrix = np.full((len(rows), len(rows)), np.nan)
    for i, row in enumerate(rows):
        if len(row) > len(rows):
            raise ValueError(f"row {i} has {len(row)} entries: at most {len(rows)}, one a task")
        matrix[i, : len(row)] = [np.nan if value is None else value for value in row]
    return matrix


def average_success(R: Matrix) -> float | None:
    """Return the mean over the tasks of the success after the last one."""
    return _mean(R[-1])


def just_learned_all(R: Matrix) -> float | None:
    """Return forgetting as the mean over all tasks of R[i, i] - R[K-1, i]; the last counts 0.

    Wang et al. 2026, arXiv 2602.02417.
    """
    return _mean(np.diag(R) - R[-1])


def just_learned_without_last(R: Matrix) -> float | None:
    """Return forgetting as the mean over i < K-1 of R[i, i] - R[K-1, i]."""
    return _mean((np.diag(R) - R[-1])[:-1])


def max_without_last(R: Matrix) -> float | None:
    """Return forgetting as the mean over i < K-1 of max_j R[j, i] - R[K-1, i], j measured."""
    earlier = R[:, :-1]
    if np.isnan(earlier).all(axis=0).any():
        return None
    return _mean(np.nanmax(earlier, axis=0) - earlier[-1])


def backward_transfer(R: Matrix) -> float | None:
    """Return the mean over i < K-1 of R[K-1, i] - R[i, i]."""
    return _mean((R[-1] - np.diag(R))[:-1])


def learning_area(updates: Sequence[int], rates: Sequence[float]) -> float:
    """Return the mean success of a task while it was learned, to its last update.

    This is the area under its curve over the number of updates: FWT_k of LIBERO (Liu et al. 2023,
    arXiv 2306.03310), which also counts a point before the first update, and AUC_i of Continual
    World (Wolczyk et al. 2021, arXiv 2105.10919). Both probe at even distances; where a run was
    told to go on for longer, each rate counts for the updates since the one before.
    """
    return float(np.average(rates, weights=np.diff(updates, prepend=0)))


def fwt(areas: Sequence[float | None]) -> float | None:
    """Return LIBERO's forward transfer, the mean over the tasks of FWT_k = mean_e c(k, k, e).

    `areas` are the tasks' `learning_area`. Liu et al. 2023, arXiv 2306.03310.
    """
    return _mean(np.array(areas, dtype=np.float64))


def nbt(R: Matrix) -> float | None:
    """Return LIBERO's negative backward transfer, the mean over the tasks of NBT_k.

    NBT_k is the mean over i > k of R[k, k] - R[i, k], 0 of the last task, as in LIBERO's own
    analysis. Liu et al. 2023, arXiv 2306.03310.
    """
    lost = [np.mean(R[k, k] - R[k + 1 :, k]) for k in range(len(R) - 1)]
    return _mean(np.array([*lost, 0.0])) if lost else None


def auc(R: Matrix, areas: Sequence[float | None]) -> float | None:
    """Return LIBERO's area under the success curve, the mean over the tasks of AUC_k.

    AUC_k is the mean of FWT_k, in `areas`, and of R[i, k] of all i > k. Liu et al. 2023,
    arXiv 2306.03310.
    """
    first = np.array(areas, dtype=np.float64)
    return _mean(np.array([np.mean([first[k], *R[k + 1 :, k]]) for k in range(len(R))]))


def forward_transfer(
    areas: Sequence[float | None], reference: Sequence[float | None]
) -> float | None:
    """Return Continual World's forward transfer, the mean of (AUC_i - AUC_i^b) / (1 - AUC_i^b).

    Both are `learning_area` of every task, of the run and of one that learns each task from fresh
    weights. A task that the reference has at 1 throughout has no term. Wolczyk et al. 2021, arXiv
    2105.10919.
    """
    learned, alone = np.array([areas, reference], dtype=np.float64)
    room = ~(alone >= 1)  # NaN is kept, so that it shows
    return _mean((learned[room] - alone[room]) / (1 - alone[room]))


@cache  # a picture of fifty tasks asks thousands of times for few of them, a millisecond each
def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a success rate from n independent rollouts."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes of {n}: give 0 <= successes <= n and n >= 1")
    interval = scipy.stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def average_success_interval(R: Matrix, n_rollouts: int) -> tuple[float, float] | None:
    """Return Wilson's interval of average_success for one policy, n_rollouts a task.

    It pools the rollouts, which is wider than needed where the tasks' rates differ.
    """
    average = average_success(R)
    if average is None:
        return None
    n = n_rollouts * len(R)
    return wilson(round(average * n), n)


def combination_interval(
    weights: Sequence[float], rates: Sequence[float], rollouts: Sequence[int]
) -> tuple[float, float]:
    """Return an interval of sum_i weights_i p_i, each rate from its own independent rollouts.

    It is too wide if rollouts share seeds. Newcombe's for a difference, from Wilson's of every
    rate, for any number of terms (Zou, Donner 2008, Statistics in Medicine 27).
    """
    bounds = np.array([wilson(round(p * n), n) for p, n in zip(rates, rollouts, strict=True)])
    terms, ends = np.multiply(weights, rates), bounds * np.array(weights)[:, None]
    below, above = terms - ends.min(axis=1), ends.max(axis=1) - terms
    estimate = terms.sum()
    return float(estimate - np.linalg.norm(below)), float(estimate + np.linalg.norm(above))


def student(values: Float[np.ndarray, "seeds"]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean over seeds.

    It is wide for few seeds, as it must be: the bootstrap of three ends at the least and at the
    greatest of them, and holds the mean three times in four.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"values {values.tolist()}: give one finite number a seed, of at least 2 seeds"
        )
    mean, seeds = float(values.mean()), len(values)
    half = scipy.stats.t.ppf(0.975, seeds - 1) * float(values.std(ddof=1)) / seeds**0.5
    return mean - half, mean + half


@dataclass(frozen=True)
class Recovery:
    """Updates until a task was back at `target` of its success just after it was learned.

    0 if no probe was below. If a probe fell below and none came back, `updates` is None and
    `censored_at` the last count probed. Both are None without a probe or without a success to come
    back to. `first_reached` is the first count whose probe was at the target, whatever came before
    or after: the simpler definition, by which a task that is forgotten slowly has "recovered" at
    the first probe.
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
    """Return when each fraction of `just_learned` is reached again along a probe curve.

    A rate of None or NaN is no probe. Only probes after the first one below the fraction count:
    the policy has hardly moved at the first probes of a task.
    """
    probes = [
        (count, rate)
        for count, rate in zip(counts, rates, strict=True)
        if rate is not None and not math.isnan(rate)
    ]
    if probes != sorted(probes, key=lambda probe: probe[0]):
        raise ValueError(f"update counts {list(counts)}: give them in increasing order")
    if not probes or just_learned is None or not just_learned > 0:
        return [Recovery(fraction, None, None, None) for fraction in fractions]
    return [_first_reach(probes, fraction, just_learned) for fraction in fractions]


def _first_reach(probes: list[tuple[int, float]], fraction: float, just_learned: float) -> Recovery:
    threshold = fraction * just_learned - 1e-9  # a rate equal to the product is not below it
    first = next((count for count, rate in probes if rate >= threshold), None)
    fallen = next((i for i, (_, rate) in enumerate(probes) if rate < threshold), None)
    if fallen is None:
        return Recovery(fraction, 0, None, first)
    reached = next((count for count, rate in probes[fallen:] if rate >= threshold), None)
    return Recovery(fraction, reached, probes[-1][0] if reached is None else None, first)


def _mean(terms: Float[np.ndarray, "n"]) -> float | None:
    """Return the mean; None without terms, or if one is NaN: other tasks have another mean."""
    return None if len(terms) == 0 or np.isnan(terms).any() else float(terms.mean())
