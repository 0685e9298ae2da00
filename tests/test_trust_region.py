import math

import pytest
import torch
from test_quadratic import random_form

from policy.trust_region import PENALTY_EVERY, TrustRegion


def test_the_penalty_is_half_its_strength_times_the_form():
    form, _, theta = random_form()
    region = TrustRegion(form, strength=3.0)
    moved = theta.clone()
    metrics = region.hold(moved, 0.01, PENALTY_EVERY)
    assert metrics == {"penalty": pytest.approx(1.5 * form.value(moved), rel=1e-6)}
    # stationarity of |x - theta|^2 / (2 rate) + strength/2 value(x)
    gradient = (moved - theta) / (PENALTY_EVERY * 0.01) + 1.5 * form.gradient(moved)
    assert gradient.abs().max() < 1e-8


def test_an_average_is_as_stiff_after_many_tasks_as_after_one():
    form, _, theta = random_form(tasks=3)
    shared, alone = theta.clone(), theta.clone()
    assert TrustRegion(form, 6.0, average=True).hold(shared, 0.01, 0) == TrustRegion(form, 2.0).hold(alone, 0.01, 0)
    assert torch.equal(shared, alone)


def test_between_its_turns_the_penalty_does_nothing():
    form, _, theta = random_form()
    region = TrustRegion(form, strength=3.0)
    moved = theta.clone()
    for update in range(1, PENALTY_EVERY):
        assert region.hold(moved, 0.01, update) == {}
    assert torch.equal(moved, theta)


def test_the_constraint_holds_after_every_update():
    form, _, theta = random_form(tasks=1)
    region = TrustRegion(form, strength=1.0, radius=0.5)
    for update in range(1, 6):
        theta += torch.randn(theta.shape, dtype=theta.dtype, generator=torch.Generator().manual_seed(update))
        metrics = region.hold(theta, 0.01, update)
        assert metrics == {"trust_region": form.value(theta)}
        assert metrics["trust_region"] <= 0.5


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bad_strengths_and_radii_are_refused(bad):
    form, _, _ = random_form()
    with pytest.raises(ValueError, match=f"strength={bad}"):
        TrustRegion(form, bad)
    with pytest.raises(ValueError, match=f"radius={bad}"):
        TrustRegion(form, 1.0, bad)
