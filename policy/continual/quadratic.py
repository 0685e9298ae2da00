"""Quadratic forms around past optima theta*_i, in the metric of their Fisher matrices F_i.

value(theta) = sum_i (theta - theta*_i)^T F_i (theta - theta*_i)

Each can pull theta towards its minimum (`shrink`) or bring it inside the ellipsoid value <= radius
(`project`), both in closed form. Vectors of parameters are ordered as in `parameter_vector`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

STIFFEST = 1e6
"""Bound on step * curvature * |direction|^2, where a step already goes 0.999999 of the way.

More would only amplify float32 rounding along the difference of nearly parallel directions."""

INSIDE = 1.0 - 1e-6  # share of the radius that projection aims at, as the result is rounded
HALVINGS = 30  # of the 60 decades of the step: to 1.3e-7 of itself, well below 1 - INSIDE


class QuadraticForm(Protocol):
    def __len__(self) -> int: ...  # past tasks
    def add(self, anchor: Any) -> None: ...
    def scale(self, factor: float) -> None: ...
    def recentre(self, theta: Tensor) -> None: ...
    def value(self, theta: Tensor) -> float: ...
    def gradient(self, theta: Tensor) -> Tensor: ...
    def shrink(self, theta: Tensor, step: float) -> float: ...
    def project(self, theta: Tensor, radius: float) -> float: ...
    def spectrum(self) -> Tensor: ...  # its eigenvalues, without those that are always zero
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class Directions:
    """One past task with F = sum_j c_j d_j d_j^T.

    Its form is sum_j c_j (d_j^T theta - offset_j)^2, zero at theta*.
    """

    directions: Float[Tensor, "r P"]
    offsets: Float[Tensor, "r"]
    curvatures: Float[Tensor, "r"]


class LowRankForm:
    """The form sum_j c_j (d_j^T (theta - theta*))^2 over the directions of all past tasks.

    A direction is one vector and two numbers. Every method costs one or two products of the matrix
    M [R, P] of the vectors with a vector, and algebra on R x R.
    """

    def __init__(self) -> None:
        self.directions: Tensor | None = None
        self.offsets = torch.zeros(0, dtype=torch.float64)
        self.curvatures = torch.zeros(0, dtype=torch.float64)
        self.gram = torch.zeros(0, 0, dtype=torch.float64)
        self.tasks = 0

    def __len__(self) -> int:
        return self.tasks

    def add(self, anchor: Directions) -> None:
        """Add one more past task."""
        rows = anchor.directions
        old = rows[:0] if self.directions is None else self.directions
        if old.shape[1] != rows.shape[1]:
            sizes = f"{rows.shape[1]} parameters beside anchors of {old.shape[1]}"
            raise ValueError(f"anchor of {sizes}: use one network")
        self.load_state_dict(
            {
                "directions": torch.cat([old, rows]),
                "offsets": torch.cat([self.offsets, anchor.offsets.double().cpu()]),
                "curvatures": torch.cat([self.curvatures, anchor.curvatures.double().cpu()]),
                "tasks": torch.tensor(self.tasks + 1),
            }
        )

    def scale(self, factor: float) -> None:
        """Multiply the form by a factor."""
        self.curvatures = factor * self.curvatures

    def recentre(self, theta: Float[Tensor, "P"]) -> None:
        """Make theta the optimum of every past task; their curvatures stay."""
        self.offsets = self.offsets + self._residuals(theta)

    def value(self, theta: Float[Tensor, "P"]) -> float:
        """Return the form at theta."""
        return float((self.curvatures * self._residuals(theta).square()).sum())

    def gradient(self, theta: Float[Tensor, "P"]) -> Float[Tensor, "P"]:
        """Return 2 M^T diag(c) (M theta - offsets): two products with M."""
        if self.directions is None:
            return torch.zeros_like(theta)
        return torch.mv(
            self.directions.T, (2.0 * self.curvatures * self._residuals(theta)).to(theta)
        )

    @torch.no_grad()
    def shrink(self, theta: Float[Tensor, "P"], step: float) -> float:
        """Set theta <- argmin_x |x - theta|^2 + step value(x) in place; return its value.

        Exact up to STIFFEST, hence stable for every step. Woodbury: (I + M^T S^2 M)^-1 acts through
        the R x R matrix I + S M M^T S.
        """
        if self.directions is None:
            return 0.0
        r = self._residuals(theta)
        s = torch.minimum(
            step * self.curvatures, STIFFEST / self.gram.diagonal().clamp(min=1e-300)
        ).sqrt()
        inner = torch.eye(len(s), dtype=s.dtype) + s[:, None] * self.gram * s
        weights = s * torch.cholesky_solve((s * r)[:, None], torch.linalg.cholesky(inner))[:, 0]
        theta.addmv_(self.directions.T, weights.to(theta), alpha=-1)
        return float((self.curvatures * (r - self.gram @ weights).square()).sum())

    @torch.no_grad()
    def project(self, theta: Float[Tensor, "P"], radius: float) -> float:
        """Set theta <- the nearest x with value(x) <= radius in place; return its value.

        Wang et al. 2026, arXiv 2602.02417, eq. 6. x moves in the span of the directions only. Its
        dual has one unknown lambda: with z = S r, S = diag(c)^1/2, and the eigenvalues a and
        eigenvectors V of S M M^T S,
        value(x(lambda)) = sum_i ((V^T z)_i / (1 + lambda a_i))^2 falls in lambda. Past optima that
        contradict one another can leave no x inside: then x is the nearest of least value.
        """
        r = self._residuals(theta)
        now = float((self.curvatures * r.square()).sum())
        if self.directions is None or now <= radius:
            return now
        s = self.curvatures.sqrt()
        a, V = torch.linalg.eigh(s[:, None] * self.gram * s)
        z = V.T @ (s * r)
        a = torch.where(a > a.max() * 1e-10, a, 0.0)  # directions that no step can change
        step = least_step(
            lambda step: float((z / (1.0 + step * a)).square().sum()), INSIDE * radius
        )
        moved = V @ (z * step / (1.0 + step * a) * (a > 0))
        theta.addmv_(self.directions.T, (s * moved).to(theta), alpha=-1)
        return self.value(theta)

    def spectrum(self) -> Float[Tensor, "R"]:
        """Return the eigenvalues of the form, of its directions alone."""
        if self.directions is None:
            return torch.zeros(0, dtype=torch.float64)
        roots = self.curvatures.sqrt()
        return torch.linalg.eigvalsh(roots[:, None] * self.gram * roots).clamp(min=0.0)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the anchors as tensors; empty without any."""
        if self.directions is None:
            return {}
        return {
            "directions": self.directions,
            "offsets": self.offsets,
            "curvatures": self.curvatures,
            "tasks": torch.tensor(self.tasks),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the anchors by those that `state_dict` returned."""
        if not state:
            self.__init__()  # type: ignore[misc]
            return
        self.directions = state["directions"]
        self.offsets = state["offsets"].double().cpu()
        self.curvatures = state["curvatures"].double().cpu()
        self.tasks = int(state["tasks"])
        rows = self.directions.double()
        self.gram = torch.stack([torch.mv(rows, row) for row in rows]).cpu()

    def _residuals(self, theta: Float[Tensor, "P"]) -> Float[Tensor, "R"]:
        """Return d_j^T (theta - theta*) of every direction."""
        if self.directions is None:
            return self.offsets
        return torch.mv(self.directions, theta.detach()).double().cpu() - self.offsets


@dataclass(frozen=True)
class Diagonal:
    """One past task with F = diag(curvatures), at theta*; one curvature stands for P equal ones."""

    curvatures: Float[Tensor, "#P"]
    theta: Float[Tensor, "P"]


class DiagonalForm:
    """The form sum_i (theta - theta*_i)^T diag(F_i) (theta - theta*_i).

    Two vectors and a number hold it, whatever the number of tasks: with A = sum_i F_i and the
    centre b = sum_i F_i theta*_i / A it is (theta - b)^T diag(A) (theta - b) + rest.
    """

    def __init__(self) -> None:
        self.curvatures: Tensor | None = None  # A, float64
        self.centre = torch.zeros(0, dtype=torch.float64)
        self.rest = 0.0
        self.tasks = 0
        # A and b as last read, in the type of the parameters.
        self._rounded: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return self.tasks

    def add(self, anchor: Diagonal) -> None:
        """Add one more past task."""
        added, theta = anchor.curvatures.double(), anchor.theta.double()
        if self.curvatures is None:
            self.curvatures, self.centre = torch.zeros_like(added), torch.zeros_like(theta)
        if len(self.curvatures) != len(added):
            sizes = f"{len(added)} parameters beside anchors of {len(self.curvatures)}"
            raise ValueError(f"anchor of {sizes}: use one network")
        total = self.curvatures + added
        share = torch.where(total > 0, added / total.clamp(min=1e-300), 0.0)
        self.rest += float((self.curvatures * share * (theta - self.centre).square()).sum())
        self.centre = self.centre + share * (theta - self.centre)
        self.curvatures, self.tasks, self._rounded = total, self.tasks + 1, None

    def scale(self, factor: float) -> None:
        """Multiply the form by a factor."""
        if self.curvatures is not None:
            self.curvatures, self.rest = factor * self.curvatures, factor * self.rest
            self._rounded = None

    def recentre(self, theta: Float[Tensor, "P"]) -> None:
        """Make theta the optimum of every past task; their curvatures stay."""
        self.centre, self.rest, self._rounded = (
            theta.detach().to(torch.float64, copy=True),
            0.0,
            None,
        )

    def value(self, theta: Float[Tensor, "P"]) -> float:
        """Return the form at theta."""
        if self.curvatures is None:
            return 0.0
        return (
            float((self.curvatures * (theta.detach().double() - self.centre).square()).sum())
            + self.rest
        )

    def gradient(self, theta: Float[Tensor, "P"]) -> Float[Tensor, "P"]:
        """Return 2 A (theta - b)."""
        if self.curvatures is None:
            return torch.zeros_like(theta)
        return (2.0 * self.curvatures * (theta.detach().double() - self.centre)).to(theta)

    @torch.no_grad()
    def shrink(self, theta: Float[Tensor, "P"], step: float) -> float:
        """Set theta <- argmin_x |x - theta|^2 + step value(x) in place; return its value."""
        if self.curvatures is None:
            return 0.0
        if self._rounded is None or self._rounded[0].dtype != theta.dtype:
            self._rounded = self.curvatures.to(theta.dtype), self.centre.to(theta.dtype)
        A, b = self._rounded
        theta.sub_(b).div_((step * A).add_(1.0))
        value = float(torch.dot(A * theta, theta)) + self.rest
        theta.add_(b)
        return value

    @torch.no_grad()
    def project(self, theta: Float[Tensor, "P"], radius: float) -> float:
        """Set theta <- the nearest x with value(x) <= radius in place; return its value.

        As in LowRankForm, by the one unknown of the dual. Contradicting past optima can leave no x
        inside: then x is b.
        """
        now = self.value(theta)
        if self.curvatures is None or now <= radius:
            return now
        A, offset = self.curvatures, theta.double() - self.centre
        squares = A * offset.square()
        step = least_step(
            lambda step: float((squares / (1.0 + step * A).square()).sum()) + self.rest,
            INSIDE * radius,
        )
        theta.copy_(self.centre + offset / (1.0 + step * A))
        return self.value(theta)

    def spectrum(self) -> Float[Tensor, "P"]:
        """Return the curvatures; none before the first task."""
        return torch.zeros(0) if self.curvatures is None else self.curvatures

    def state_dict(self) -> dict[str, Tensor]:
        """Return the anchors as tensors; empty without any."""
        if self.curvatures is None:
            return {}
        rest = torch.tensor(self.rest, dtype=torch.float64)
        return {
            "curvatures": self.curvatures,
            "centre": self.centre,
            "rest": rest,
            "tasks": torch.tensor(self.tasks),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the anchors by those that `state_dict` returned."""
        self.__init__()  # type: ignore[misc]
        if state:
            self.curvatures, self.centre = state["curvatures"].double(), state["centre"].double()
            self.rest, self.tasks = float(state["rest"]), int(state["tasks"])


def least_step(value: Callable[[float], float], radius: float) -> float:
    """Return the least step at which the falling `value` is at most `radius`, at most 1e30.

    By bisection of the logarithm of the step.
    """
    low, high = 1e-30, 1e30
    if value(high) > radius:
        return high
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if value(middle) <= radius else (middle, high)
    return high
