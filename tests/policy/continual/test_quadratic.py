"""Quadratic forms against their definition, numeric minimisation and random ellipsoids."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reconverge.policy.continual.quadratic import Diagonal, Directions, least_step
from support.forms import FORMS, random_form


def written_out(dense, theta):
    """The definition, differentiable."""
    return sum(
        ((theta - optimum) @ F @ (theta - optimum) for F, optimum in dense),
        torch.zeros((), dtype=theta.dtype),
    )


@pytest.fixture(params=list(FORMS))
def name(request):
    return request.param


@pytest.mark.parametrize("rank", [1, 3])
def test_value_and_gradient_are_the_definitions(name, rank):
    form, dense, theta = random_form(name, rank=rank)
    leaf = theta.clone().requires_grad_()
    value = written_out(dense, leaf)
    value.backward()
    assert form.value(theta) == pytest.approx(value.item(), rel=1e-10)
    torch.testing.assert_close(form.gradient(theta), leaf.grad)
    assert len(form) == 3


def test_scale_multiplies_value_and_steps(name):
    form, _, theta = random_form(name, rank=2)
    value, moved, scaled = form.value(theta), theta.clone(), theta.clone()
    form.shrink(moved, 0.3)
    form.scale(0.25)
    assert form.value(theta) == pytest.approx(0.25 * value, rel=1e-10)
    form.shrink(scaled, 1.2)
    torch.testing.assert_close(scaled, moved)
    assert len(form) == 3


def test_a_diagonal_of_one_number_is_that_of_equal_ones():
    theta = torch.arange(6, dtype=torch.float64)
    one, many = FORMS["diagonal"](), FORMS["diagonal"]()
    for i in (1.0, 2.0):
        one.add(Diagonal(torch.tensor([i]), theta * i))
        many.add(Diagonal(torch.full((6,), i), theta * i))
    at = -theta
    assert one.value(at) == pytest.approx(many.value(at))
    torch.testing.assert_close(one.gradient(at), many.gradient(at))
    for change in (lambda form, x: form.shrink(x, 0.4), lambda form, x: form.project(x, 400.0)):
        found = [at.clone(), at.clone()]
        values = [change(form, x) for form, x in zip((one, many), found, strict=True)]
        assert values[0] == pytest.approx(values[1])
        torch.testing.assert_close(*found)
        assert not torch.equal(found[0], at)


@pytest.mark.parametrize("step", [1e-3, 0.1, 10.0])
def test_shrink_is_the_numeric_minimum(name, step):
    form, dense, theta = random_form(name, rank=2)
    x = theta.clone().requires_grad_()
    search = torch.optim.LBFGS(
        [x], max_iter=500, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def objective():
        search.zero_grad()
        value = (x - theta).square().sum() + step * written_out(dense, x)
        value.backward()
        return value

    search.step(objective)
    moved = theta.clone()
    after = form.shrink(moved, step)
    torch.testing.assert_close(moved, x.detach(), rtol=1e-5, atol=1e-6)
    assert (moved - theta).norm() > 1e-4
    assert after == pytest.approx(form.value(moved), rel=1e-6)


@pytest.mark.parametrize("step", [1e3, 1e12, 1e30, 1e300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shrink_is_stable_whatever_the_stiffness(step, dtype):
    """With ever larger steps it tends to the projection onto all the constraints."""
    form, _, theta = random_form(size=1000)
    nearly = form.directions[0] + 1e-4 * form.directions[1]  # almost parallel to a constraint held
    offset = form.offsets[:1] + 1e-4 * form.offsets[1:2]
    form.add(Directions(nearly[None], offset, torch.ones(1, dtype=torch.float64)))
    form.directions = form.directions.to(dtype)
    M, theta = form.directions, theta.to(dtype)
    projected = theta.double() - torch.linalg.pinv(M[:3].double()) @ (
        M[:3].double() @ theta.double() - form.offsets[:3]
    )
    moved = theta.clone()
    for _ in range(20):
        form.shrink(moved, step)
    torch.testing.assert_close(moved.double(), projected, rtol=0, atol=1e-4)


def test_shrink_after_descent_reaches_the_minimum_of_the_sum(name):
    """Where explicit descent on the sum with this step diverges."""
    form, _, target = random_form(name)
    theta = torch.zeros_like(target)
    for _ in range(400):
        theta -= 0.1 * (theta - target)
        form.shrink(theta, 0.1 * 1e4)
    stationarity = (theta - target) + 0.5 * 1e4 * form.gradient(theta)
    assert stationarity.abs().max() < 1e-7


def test_shrink_every_fourth_update_has_nearly_the_same_minimum(name):
    form, _, target = random_form(name)
    ends = []
    for every in (1, 4):
        theta = torch.zeros_like(target)
        for update in range(2000):
            theta -= 0.01 * (theta - target)
            if update % every == every - 1:
                form.shrink(theta, every * 0.01 * 1e4)
        ends.append(theta)
    assert (ends[1] - ends[0]).norm() < 0.01 * (target - ends[0]).norm()


seeds, radii = st.integers(0, 10_000), st.floats(1e-6, 1e4)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, radius=radii, rank=st.integers(1, 4), form_name=st.sampled_from(sorted(FORMS)))
def test_project_ends_inside_and_inside_does_nothing(seed, radius, rank, form_name):
    """One past task: every radius can be reached."""
    form, _, theta = random_form(form_name, seed=seed, tasks=1, rank=rank)
    moved = theta.clone()
    after = form.project(moved, radius)
    assert form.value(moved) <= radius
    assert after == form.value(moved)
    if form.value(theta) <= radius:
        assert torch.equal(moved, theta)
    else:
        assert form.value(moved) == pytest.approx(radius, rel=1e-4)
    again = moved.clone()
    form.project(again, radius)
    assert torch.equal(again, moved)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, share=st.floats(0.1, 0.9), form_name=st.sampled_from(sorted(FORMS)))
def test_project_finds_the_nearest_point(seed, share, form_name):
    """Several past tasks: no other point of the ellipsoid found by chance is nearer."""
    form, _, theta = random_form(form_name, size=12, seed=seed, tasks=3)
    least = theta.clone()
    bottom = form.project(least, 0.0)  # contradicting optima: the least value
    radius = bottom + share * (form.value(theta) - bottom)
    moved = theta.clone()
    assert form.project(moved, radius) <= radius
    distance = (moved - theta).norm()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(200):
        other = moved + 0.3 * distance * torch.randn(
            theta.shape, generator=generator, dtype=theta.dtype
        )
        if form.value(other) <= radius:
            assert (other - theta).norm() >= distance * (1 - 1e-5)


def test_project_is_shrink_with_the_right_strength(name):
    form, _, theta = random_form(name, tasks=2)
    radius = 0.2 * form.value(theta) + 0.8 * form.project(theta.clone(), 0.0)
    projected, shrunk = theta.clone(), theta.clone()
    form.project(projected, radius)

    def value(step):
        return form.shrink(theta.clone(), step)

    form.shrink(shrunk, least_step(value, radius))
    torch.testing.assert_close(projected, shrunk, rtol=1e-4, atol=1e-5)


def test_project_in_single_precision_is_inside_up_to_rounding(name):
    form, _, theta = random_form(name, size=5000, tasks=1, rank=1)
    if name == "low_rank":
        form.directions = form.directions.float()
    single = theta.float()
    before = form.value(single)
    assert form.project(single, 1e-3 * before) <= 1.01e-3 * before


def test_recentre_is_as_stiff_around_the_last_policy(name):
    form, dense, theta = random_form(name, rank=2)
    form.recentre(theta)
    moved = theta + torch.linspace(-1, 1, len(theta), dtype=theta.dtype)
    total = sum(F for F, _ in dense)
    assert form.value(theta) == pytest.approx(0.0, abs=1e-18)
    expected = float((moved - theta) @ total @ (moved - theta))
    assert form.value(moved) == pytest.approx(expected, rel=1e-6)
    centre = theta.clone()
    theta += 1.0  # the form keeps its own copy
    assert form.value(centre) == pytest.approx(0.0, abs=1e-18)


def test_least_step_is_the_least():
    assert least_step(lambda step: 1 / (1 + step) ** 2, 0.25) == pytest.approx(1.0, rel=1e-9)
    assert least_step(lambda step: 2.0, 1.0) == 1e30


def test_value_and_gradient_without_an_anchor_are_zero(name):
    form, theta = FORMS[name](), torch.ones(4)
    assert form.value(theta) == form.shrink(theta, 1.0) == form.project(theta, 0.0) == 0
    assert form.gradient(theta).eq(0).all()
    assert theta.eq(1).all()
    assert form.state_dict() == {}
    assert len(form) == 0


def test_load_state_dict_restores_the_form(name):
    form, _, theta = random_form(name)
    state = {key: value.clone() for key, value in form.state_dict().items()}
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    restored = FORMS[name]()
    restored.load_state_dict(state)
    assert len(restored) == 3
    a, b = theta.clone(), theta.clone()
    assert form.shrink(a, 0.3) == restored.shrink(b, 0.3)
    assert torch.equal(a, b)
    restored.load_state_dict({})
    assert len(restored) == 0


def test_add_refuses_anchors_of_another_network():
    form, _, _ = random_form("low_rank")
    with pytest.raises(ValueError, match="anchor of 2 parameters beside anchors of 30"):
        form.add(Directions(torch.zeros(1, 2).double(), torch.zeros(1), torch.ones(1)))
    form, _, _ = random_form("diagonal")
    with pytest.raises(ValueError, match="anchor of 2 parameters beside anchors of 30"):
        form.add(Diagonal(torch.zeros(2), torch.zeros(2)))


@pytest.mark.parametrize("name", FORMS)
def test_spectrum_is_that_of_the_summed_matrix(name):
    form, dense, _ = random_form(name)
    eigenvalues = torch.linalg.eigvalsh(sum(F for F, _ in dense))
    found = form.spectrum().sort().values
    torch.testing.assert_close(
        found, eigenvalues[-len(found) :].clamp(min=0.0), atol=1e-9, rtol=1e-9
    )
    assert float(eigenvalues[: -len(found)].abs().sum()) < 1e-9
    assert len(FORMS[name]().spectrum()) == 0
