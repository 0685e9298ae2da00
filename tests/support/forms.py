"""Quadratic forms of random past tasks."""

import torch

from reconverge.policy.continual.quadratic import Diagonal, DiagonalForm, Directions, LowRankForm

FORMS = {"low_rank": LowRankForm, "diagonal": DiagonalForm}


def random_form(name="low_rank", size=30, seed=0, tasks=3, rank=1):
    """A form of several past tasks, their Fisher matrices and optima, and a random theta."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    form, dense = FORMS[name](), []
    for _ in range(tasks):
        optimum = randn(size)
        if name == "diagonal":
            curvatures = randn(size).square() * (randn(size) > 0)  # some are zero
            form.add(Diagonal(curvatures, optimum))
            dense.append((torch.diag(curvatures), optimum))
        else:
            rows, curvatures = randn(rank, size), 0.1 + randn(rank).square()
            form.add(Directions(rows, rows @ optimum, curvatures))
            dense.append((rows.T @ torch.diag(curvatures) @ rows, optimum))
    return form, dense, randn(size)
