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
    by its own size and would turn a stiff pull along a few directions into a step of constant length. With a radius,
    value(theta) <= radius holds after every update (eq. 6), up to the rounding of float32 parameters, by projection;
    the penalty is its Lagrangian form. Where past optima contradict one another by more than the radius, nothing is
    inside: theta then stays at the nearest point of least value, and the metric `trust_region` exceeds the radius.

    In eq. 8 every past task pulls towards its own optimum, with all its strength, all the time. Three departures:
    `average` shares the strength between the past tasks, as their sum stiffens with every task. `recentre` pulls
    towards the policy from which the current task began (as in arXiv 1805.06370): replay has kept that one good at
    all past tasks, while their own optima may contradict one another. `anneal` lets the strength fall linearly to zero
    over the updates of a task: the pull is there after the transition, and gone when the task is learned to the end.
    """

    def __init__(
        self,
        form: QuadraticForm,
        strength: float,
        radius: float | None = None,
        *,
        average: bool = False,
        recentre: bool = False,
        anneal: bool = False,
    ):
        if not (math.isfinite(strength) and strength >= 0):
            raise ValueError(f"strength={strength}: give a finite number of at least 0")
        if radius is not None and not (math.isfinite(radius) and radius >= 0):
            raise ValueError(f"radius={radius}: give a finite number of at least 0, or null for the penalty")
        self.form, self.strength, self.radius = form, strength, radius
        self.average, self.recentre, self.anneal = average, recentre, anneal

    def add(self, anchor: Any, theta: Float[Tensor, P]) -> None:
        """Hold one more past task, with which the policy is at theta."""
        self.form.add(anchor)
        if self.recentre:
            self.form.recentre(theta)

    def hold(self, theta: Float[Tensor, P], rate: float, update: int, updates: int) -> dict[str, float]:
        """Correct theta in place after the `update`-th of a task's steps, taken at learning rate `rate`.

        Returns what there is to log.
        """
        if self.radius is not None:
            return {"trust_region": self.form.project(theta, self.radius)}
        if update % PENALTY_EVERY:
            return {}
        strength = self.strength * (1.0 - update / updates if self.anneal else 1.0)
        strength /= max(1, len(self.form)) if self.average else 1
        return {"penalty": 0.5 * strength * self.form.shrink(theta, PENALTY_EVERY * rate * strength)}

    def state_dict(self) -> dict[str, Tensor]:
        return self.form.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.form.load_state_dict(state)
