import math
from statistics import NormalDist

import numpy as np
import pytest

from reconverge.policy.runs import metrics

N = None
R = metrics.success_matrix([[0.8, N, N], [0.9, 0.6], [0.4, 0.7, 1.0]])


def test_success_matrix_marks_tasks_not_seen():
    expected = [[0.8, np.nan, np.nan], [0.9, 0.6, np.nan], [0.4, 0.7, 1.0]]
    np.testing.assert_array_equal(R, expected)
    with pytest.raises(ValueError, match="row 0 has 2 entries"):
        metrics.success_matrix([[0.1, 0.2]])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [  # by hand
        ("average_success", (0.4 + 0.7 + 1.0) / 3),
        ("just_learned_all", (0.4 - 0.1 + 0.0) / 3),
        ("just_learned_without_last", (0.4 - 0.1) / 2),
        ("max_without_last", (0.5 + 0.0) / 2),
        ("backward_transfer", (-0.4 + 0.1) / 2),
    ],
)
def test_metrics_by_hand(metric, expected):
    assert getattr(metrics, metric)(R) == pytest.approx(expected)


RATES = [0.4, 0.8], [0.0, 0.6], [0.5, 1.0]
AREAS = [metrics.learning_area([50, 100], rates) for rates in RATES]


def test_learning_area_of_a_task_that_was_learned_for_longer_weighs_by_updates():
    """100 updates became 200: a quarter of the curve lies between the first four probes."""
    updates, rates = [25, 50, 75, 100, 150, 200], [0.0, 0.0, 0.4, 0.6, 0.8, 1.0]
    assert metrics.learning_area(updates, rates) == pytest.approx(1.0 / 8 + 1.8 / 4)


def test_liberos_metrics_by_hand():
    """FWT 0.6, 0.3, 0.75; NBT (-0.1 + 0.4)/2, -0.1 and 0; AUC (0.6 + 0.9 + 0.4)/3 and so on."""
    assert pytest.approx([0.6, 0.3, 0.75]) == AREAS
    assert metrics.fwt(AREAS) == pytest.approx(0.55)
    assert metrics.nbt(R) == pytest.approx((0.15 - 0.1 + 0.0) / 3)
    assert metrics.auc(R, AREAS) == pytest.approx((1.9 / 3 + (0.3 + 0.7) / 2 + 0.75) / 3)


def test_liberos_metrics_of_what_was_not_measured_are_none():
    assert metrics.fwt([0.5, N]) is None
    assert metrics.auc(R, [0.6, N, 0.75]) is None
    assert metrics.nbt(metrics.success_matrix([[0.7]])) is None
    assert metrics.nbt(metrics.success_matrix([[0.7], [0.6, 0.5], [N, 0.5, 0.5]])) is None


def test_forward_transfer_by_hand():
    """(0.6 - 0.2)/0.8 and (0.3 - 0.5)/0.5; a reference of 1 leaves nothing to gain."""
    assert metrics.forward_transfer([0.6, 0.3], [0.2, 0.5]) == pytest.approx((0.5 - 0.4) / 2)
    assert metrics.forward_transfer([0.6, 0.3], [0.2, 1.0]) == pytest.approx(0.5)
    assert metrics.forward_transfer([0.6], [1.0]) is None
    assert metrics.forward_transfer([0.6, N], [0.2, 0.5]) is None
    assert metrics.forward_transfer([0.6, 0.3], [0.2, N]) is None


def test_the_papers_forgetting_counts_the_last_task_as_zero():
    ratio = metrics.just_learned_all(R) / metrics.just_learned_without_last(R)
    assert ratio == pytest.approx(2 / 3)


def test_one_task():
    one = metrics.success_matrix([[0.7]])
    assert metrics.average_success(one) == 0.7
    assert metrics.just_learned_all(one) == 0
    for name in ("just_learned_without_last", "max_without_last", "backward_transfer"):
        assert getattr(metrics, name)(one) is None


def test_missing_entries_give_none():
    unfinished = metrics.success_matrix([[0.7], [0.6, N]])
    for name in ("average_success", "just_learned_all"):
        assert getattr(metrics, name)(unfinished) is None
    assert metrics.just_learned_without_last(unfinished) == pytest.approx(0.1)
    assert metrics.backward_transfer(unfinished) == pytest.approx(-0.1)
    assert metrics.average_success_interval(unfinished, 50) is None
    unseen = metrics.success_matrix([[N], [N, 0.5]])
    assert metrics.max_without_last(unseen) is None
    assert metrics.max_without_last(unfinished) == pytest.approx(0.1)


@pytest.mark.parametrize("n", [1, 7, 50, 1000])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 1.0])
def test_wilson_solves_the_score_equation(n, share):
    """Its ends are the rates p at which |successes/n - p| is z standard errors, 0 and 1 where
    nothing lies beyond.
    """
    successes = round(share * n)
    z = NormalDist().inv_cdf(0.975)
    low, high = metrics.wilson(successes, n)
    assert low <= successes / n <= high
    assert (low == 0.0) == (successes == 0)
    assert (high == 1.0) == (successes == n)
    for p in {low, high} - {0.0, 1.0}:
        assert abs(successes / n - p) == pytest.approx(z * math.sqrt(p * (1 - p) / n))


def test_wilson_is_computed_once_for_equal_counts(monkeypatch):
    asked = []
    test = metrics.scipy.stats.binomtest
    monkeypatch.setattr(
        metrics.scipy.stats, "binomtest", lambda *counts: asked.append(counts) or test(*counts)
    )
    metrics.wilson.cache_clear()
    assert len({metrics.wilson(17, 30) for _ in range(3)}) == 1
    assert asked == [(17, 30)]


def test_average_success_interval_pools_the_rollouts():
    assert metrics.average_success_interval(R, 50) == metrics.wilson(105, 150)


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_student_holds_the_mean_as_often_as_it_says(seeds):
    drawn = np.random.default_rng(0).normal(0.8, 0.1, size=(2000, seeds))
    intervals = [metrics.student(values) for values in drawn]
    held = np.mean([low <= 0.8 <= high for low, high in intervals])
    assert held == pytest.approx(0.95, abs=0.02)


def test_student_is_around_the_mean_and_as_wide_as_the_table_says():
    low, high = metrics.student(np.array([0.0, 1.0]))  # t of one degree of freedom: 12.706
    assert (low, high) == pytest.approx((0.5 - 6.353, 0.5 + 6.353), abs=1e-3)
    assert metrics.student(np.array([0.7, 0.7, 0.7])) == pytest.approx((0.7, 0.7))


def test_recovery_reads_the_first_reach():
    curve = metrics.recovery([2, 4, 6, 8], [0.5, 0.72, 0.1, 0.81], just_learned=0.9)
    assert [(r.target, r.updates, r.censored_at) for r in curve] == [
        (0.99, N, 8),
        (0.9, 8, N),
        (0.8, 4, N),
    ]


def test_recovery_counts_equality_in_spite_of_rounding():
    """0.8 * 0.9 is above 0.72 in floating point."""
    assert 0.8 * 0.9 > 0.72
    assert metrics.recovery([2, 4], [0.5, 0.72], 0.9, fractions=[0.8])[0].updates == 4


def test_recovery_counts_from_the_fall_on():
    """The first probes after a transition find a policy that has hardly moved."""
    collapsed = metrics.recovery(
        [2, 4, 6, 8], [1.0, 1.0, 0.3, 0.0], just_learned=1.0, fractions=[0.9]
    )[0]
    assert (collapsed.updates, collapsed.censored_at) == (N, 8)
    assert collapsed.first_reached == 2
    dipped = metrics.recovery(
        [2, 4, 6, 8], [1.0, 0.85, 0.85, 0.95], just_learned=1.0, fractions=[0.9, 0.8]
    )
    assert [(r.updates, r.censored_at) for r in dipped] == [(8, N), (0, N)]


def test_recovery_without_a_probe_or_a_success_says_nothing():
    for rates, just_learned in (([N, float("nan")], 0.9), ([0.5, 0.5], 0.0), ([0.5, 0.5], N)):
        for result in metrics.recovery([2, 4], rates, just_learned):
            assert (result.updates, result.censored_at) == (N, N)
    partial = metrics.recovery([2, 4, 6], [N, 0.1, N], 0.9, fractions=[0.9])[0]
    assert (partial.updates, partial.censored_at) == (N, 4)
    with pytest.raises(ValueError, match="increasing order"):
        metrics.recovery([4, 2], [0.1, 0.1], 0.9)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="successes"):
        metrics.wilson(successes, n)


@pytest.mark.parametrize("values", [[0.5], [0.5, float("nan")]])
def test_student_refuses_one_seed_and_missing_values(values):
    with pytest.raises(ValueError, match="seeds"):
        metrics.student(np.array(values))


def test_the_interval_of_a_difference_is_newcombes():
    """56 of 70 against 48 of 80: method 10 in Statistics in Medicine 17 (1998), table II."""
    found = metrics.combination_interval([1.0, -1.0], [56 / 70, 48 / 80], [70, 80])
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)
    mirrored = metrics.combination_interval([-1.0, 1.0], [56 / 70, 48 / 80], [70, 80])
    assert mirrored == pytest.approx((-found[1], -found[0]))


def test_the_interval_of_a_combination_holds_the_truth_as_often_as_it_says():
    """Three rates of 50 rollouts, of which the method promises 95 % roughly."""
    rng, truth, weights = (
        np.random.default_rng(0),
        np.array([0.9, 0.5, 0.8]),
        np.array([0.5, -1.0, 0.5]),
    )
    held = 0
    for rates in rng.binomial(50, truth, (500, 3)) / 50:
        low, high = metrics.combination_interval(weights.tolist(), rates.tolist(), [50] * 3)
        held += low <= weights @ truth <= high
    assert 0.92 < held / 500 < 0.98
