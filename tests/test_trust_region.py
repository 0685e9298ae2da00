import math

import pytest
import torch
from test_quadratic import random_form

from policy.quadratic import Diagonal, Directions
from policy.trust_region import PENALTY_EVERY, TrustRegion


def test_the_penalty_is_half_its_strength_times_the_form():
    form, _, theta = random_form()
    region = TrustRegion(form, strength=3.0)
    moved = theta.clone()
    metrics = region.hold(moved, 0.01, PENALTY_EVERY, 100)
    assert metrics == {"penalty": pytest.approx(1.5 * form.value(moved), rel=1e-6)}
    # stationarity of |x - theta|^2 / (2 rate) + strength/2 value(x)
    gradient = (moved - theta) / (PENALTY_EVERY * 0.01) + 1.5 * form.gradient(moved)
    assert gradient.abs().max() < 1e-8


def test_an_average_is_as_stiff_after_many_tasks_as_after_one():
    form, _, theta = random_form(tasks=3)
    shared, alone = theta.clone(), theta.clone()
    average, single = TrustRegion(form, 6.0, average=True), TrustRegion(form, 2.0)
    assert average.hold(shared, 0.01, 0, 100) == single.hold(alone, 0.01, 0, 100)
    assert torch.equal(shared, alone)


def test_an_annealed_strength_falls_to_zero_over_a_task():
    form, _, theta = random_form()
    annealed, constant = theta.clone(), theta.clone()
    region = TrustRegion(form, 4.0, anneal=True)
    assert region.hold(annealed, 0.01, 60, 80) == TrustRegion(form, 1.0).hold(constant, 0.01, 60, 80)
    assert torch.equal(annealed, constant)
    assert region.hold(annealed, 0.01, 80, 80) == {"penalty": 0.0}
    assert torch.equal(annealed, constant)


@pytest.mark.parametrize("name", ["low_rank", "diagonal"])
def test_a_recentred_region_is_around_the_last_policy_and_as_stiff(name):
    form, dense, theta = random_form(name)
    region = TrustRegion(form, 1.0, recentre=True)
    _, optimum = dense[0]
    fisher = torch.eye(len(theta), dtype=theta.dtype)[:1]
    one = Directions(fisher, fisher @ optimum, torch.ones(1)) if name == "low_rank" else Diagonal(fisher[0], optimum)
    region.add(one, theta)
    moved = theta + torch.linspace(-1, 1, len(theta), dtype=theta.dtype)
    total = sum((F for F, _ in dense), fisher.T @ fisher)
    assert form.value(theta) == pytest.approx(0.0, abs=1e-18)
    assert form.value(moved) == pytest.approx(float((moved - theta) @ total @ (moved - theta)), rel=1e-6)
    centre = theta.clone()
    theta += 1.0  # the form keeps its own copy
    assert form.value(centre) == pytest.approx(0.0, abs=1e-18)


def test_between_its_turns_the_penalty_does_nothing():
    form, _, theta = random_form()
    region = TrustRegion(form, strength=3.0)
    moved = theta.clone()
    for update in range(1, PENALTY_EVERY):
        assert region.hold(moved, 0.01, update, 100) == {}
    assert torch.equal(moved, theta)


def test_the_constraint_holds_after_every_update():
    form, _, theta = random_form(tasks=1)
    region = TrustRegion(form, strength=1.0, radius=0.5)
    for update in range(1, 6):
        theta += torch.randn(theta.shape, dtype=theta.dtype, generator=torch.Generator().manual_seed(update))
        metrics = region.hold(theta, 0.01, update, 100)
        assert metrics == {"trust_region": form.value(theta)}
        assert metrics["trust_region"] <= 0.5


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bad_strengths_and_radii_are_refused(bad):
    form, _, _ = random_form()
    with pytest.raises(ValueError, match=f"strength={bad}"):
        TrustRegion(form, bad)
    with pytest.raises(ValueError, match=f"radius={bad}"):
        TrustRegion(form, 1.0, bad)
