"""The Kronecker-factored form against dense matrices."""

import pytest
import torch

from reconverge.policy.continual.kronecker import Block, Factors, Kronecker, KroneckerForm

SIZE = 12 + 5 + 2  # a layer [3, 4] with a bias, then five free numbers; W is transposed by none


def factors(seed, theta, block):
    generator = torch.Generator().manual_seed(seed)

    def positive(n):
        x = torch.randn((n, n), generator=generator, dtype=torch.float64)
        return torch.linalg.eigh(x @ x.T / n)

    columns = block.columns + (block.bias is not None)
    (a, U_A), (g, U_G) = positive(columns), positive(block.rows)
    return Factors(block, block.matrix(theta), U_A, U_G, torch.outer(g, a))


def make(seed=0):
    """A form of one past task, its dense matrix by unit vectors, its optimum."""
    generator = torch.Generator().manual_seed(100 + seed)
    optimum = torch.randn(SIZE, generator=generator, dtype=torch.float64)
    block = Block(weight=2, bias=14, rows=3, columns=4)
    form = KroneckerForm()
    form.add(Kronecker((factors(seed, optimum, block),)))
    units = torch.eye(SIZE, dtype=torch.float64)
    F = torch.stack([0.5 * form.gradient(optimum + unit) for unit in units], dim=1)
    return form, F, optimum, optimum + torch.randn(SIZE, generator=generator, dtype=torch.float64)


def test_matrix_is_symmetric_and_leaves_the_rest_free():
    _, F, _, _ = make()
    torch.testing.assert_close(F, F.T)
    assert torch.linalg.eigvalsh(F).min() > -1e-12
    free = [0, 1, 17, 18]
    assert not F[free].any()
    assert F[2:17].any(dim=1).all()


def test_scale_multiplies_the_form():
    form, F, optimum, theta = make()
    form.scale(0.3)
    delta = theta - optimum
    assert form.value(theta) == pytest.approx(0.3 * float(delta @ F @ delta))


def test_value_and_gradient_are_those_of_the_dense_matrix():
    form, F, optimum, theta = make()
    delta = theta - optimum
    assert form.value(theta) == pytest.approx(float(delta @ F @ delta))
    torch.testing.assert_close(form.gradient(theta), 2 * F @ delta)


@pytest.mark.parametrize("step", [1e-3, 0.5, 1e6])
def test_shrink_is_the_proximal_step(step):
    form, F, optimum, theta = make()
    wanted = optimum + torch.linalg.solve(torch.eye(SIZE) + step * F, theta - optimum)
    value = form.shrink(theta, step)
    torch.testing.assert_close(theta, wanted)
    assert value == pytest.approx(form.value(theta), abs=1e-12)


def test_project_is_the_nearest_point_inside():
    form, F, optimum, theta = make()
    start, radius = theta.clone(), 0.1 * form.value(theta)
    found = form.project(theta, radius)
    assert radius * (1 - 1e-5) <= found <= radius
    # The way there is along the gradient of the form (the stationarity of the dual).
    pull, normal = start - theta, F @ (theta - optimum)
    cosine = pull @ normal / (pull.norm() * normal.norm())
    assert float(cosine) == pytest.approx(1.0, abs=1e-9)
    inside = theta.clone()
    assert form.project(inside, 2 * radius) == pytest.approx(found)
    assert torch.equal(inside, theta)


def test_recentre_keeps_the_fisher_around_another_point():
    form, F, _, theta = make()
    other = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    form.recentre(other)
    delta = theta - other
    assert form.value(theta) == pytest.approx(float(delta @ F @ delta))


def test_several_past_tasks_add_up_and_cannot_be_projected():
    form, F, optimum, theta = make(0)
    second, F2, optimum2, _ = make(1)
    form.add(second.anchors[0])
    a, b = theta - optimum, theta - optimum2
    assert form.value(theta) == pytest.approx(float(a @ F @ a + b @ F2 @ b))
    before = form.value(theta)
    form.shrink(theta, 0.1)
    assert form.value(theta) < before
    with pytest.raises(AssertionError, match="holds one mixture"):
        form.project(theta, 0.1)


def test_spectrum_is_that_of_the_matrix():
    form, F, _, _ = make()
    found = form.spectrum().double().sort().values
    torch.testing.assert_close(found, torch.linalg.eigvalsh(F)[-len(found) :], atol=1e-9, rtol=1e-6)


def test_state_dict_gives_the_same_form_back():
    form, _, _, theta = make(0)
    form.add(make(1)[0].anchors[0])
    again = KroneckerForm()
    again.load_state_dict(form.state_dict())
    assert len(again) == 2
    assert again.value(theta) == form.value(theta)
    other = theta.clone()
    assert again.shrink(other, 0.3) == form.shrink(theta, 0.3)
    assert torch.equal(other, theta)
    again.load_state_dict({})
    assert (len(again), again.value(theta)) == (0, 0)


def test_layers_with_and_without_a_bias_add_up_scale_and_keep_their_centres():
    _, _, optimum, theta = make()
    blocks = (Block(weight=2, bias=14, rows=3, columns=4), Block(0, None, rows=1, columns=2))
    layers = tuple(factors(i, optimum, block) for i, block in enumerate(blocks))
    form, alone = KroneckerForm(), [KroneckerForm() for _ in layers]
    form.add(Kronecker(layers))
    for each, layer in zip(alone, layers, strict=True):
        each.add(Kronecker((layer,)))
    values = [each.value(theta) for each in alone]
    assert min(values) > 0
    assert form.value(theta) == pytest.approx(sum(values))
    form.scale(0.3)
    assert form.value(theta) == pytest.approx(0.3 * sum(values))
    form.recentre(theta)
    centre = theta.clone()
    theta += 1.0  # the form keeps its own copy
    assert form.value(centre) == 0.0 < form.value(theta)
