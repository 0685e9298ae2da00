"""The trust region of past tasks, as a penalty or as a constraint (arXiv 2602.02417)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from policy.quadratic import QuadraticForm

PENALTY_EVERY = 4
"""Updates between proximal steps, each of four times the size, at a quarter of the cost. A probe that falls between
two of them sees a policy that is up to three updates past the last."""


class TrustRegion:
    """Keeps parameters near past optima in the metric of their Fisher information, after each optimiser step.

    Without a radius, (strength/2) value(theta), the last term of eq. 8, acts as a proximal step of the size of the
    learning rate, decoupled from the optimiser as weight decay is in AdamW (arXiv 1711.05101): Adam divides a gradient
    by its own size and would turn a stiff pull along a few directions into a step of constant length. With `average`
    the strength is shared between the past tasks, as their sum (eq. 8) stiffens with every task. With a radius,
    value(theta) <= radius holds after every update (eq. 6), up to the rounding of float32 parameters, by projection;
    the penalty is its Lagrangian form. Where past optima contradict one another by more than the radius, nothing is
    inside: theta then stays at the nearest point of least value, and the metric `trust_region` exceeds the radius.
    """

    def __init__(self, form: QuadraticForm, strength: float, radius: float | None = None, average: bool = False):
        if not (math.isfinite(strength) and strength >= 0):
            raise ValueError(f"strength={strength}: give a finite number of at least 0")
        if radius is not None and not (math.isfinite(radius) and radius >= 0):
            raise ValueError(f"radius={radius}: give a finite number of at least 0, or null for the penalty")
        self.form, self.strength, self.radius, self.average = form, strength, radius, average

    def add(self, anchor: Any) -> None:
        """Hold one more past task."""
        self.form.add(anchor)

    def hold(self, theta: Float[Tensor, P], rate: float, update: int) -> dict[str, float]:
        """Correct theta in place after the `update`-th step, taken at learning rate `rate`; what there is to log."""
        if self.radius is not None:
            return {"trust_region": self.form.project(theta, self.radius)}
        if update % PENALTY_EVERY:
            return {}
        strength = self.strength / max(1, len(self.form)) if self.average else self.strength
        return {"penalty": 0.5 * strength * self.form.shrink(theta, PENALTY_EVERY * rate * strength)}

    def state_dict(self) -> dict[str, Tensor]:
        return self.form.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.form.load_state_dict(state)
