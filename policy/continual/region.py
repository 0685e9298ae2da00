"""The trust region of past tasks, as a penalty or as a constraint.

Wang et al. 2026, arXiv 2602.02417, eq. 6 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import (
    Denoiser,
    Source,
    corrupt,
    half_squared_errors,
    imagined,
)
from reconverge.policy.continual.fisher import Fisher
from reconverge.policy.continual.kronecker import KroneckerForm
from reconverge.policy.continual.quadratic import LowRankForm, QuadraticForm, least_step

CENTRES = {
    "before_task": "around the policy before the task, the strength shared between the past tasks "
    "and lowered to zero by the task's last update",
    "replayed": "as before_task, with a Fisher estimated there anew for every task on a mixture of "
    "replayed windows",
    "each_optimum": "around each past optimum, each with the full strength, as in eq. 8",
    "each_optimum_shared": "as each_optimum, with the strength shared",
    "newest_optimum": "around the policy before the task, with the full strength, all the time",
}
AROUND_THE_POLICY_BEFORE = ("before_task", "replayed", "newest_optimum")


def centre_meaning(choices: Iterable[str]) -> str:
    """Return the help text of an option that chooses among `choices`."""
    return " | ".join(f"{choice}: {CENTRES[choice]}" for choice in choices)


STRENGTH_MEANING = (
    "lambda, the penalty's weight; F is taken of half the summed squared error of a sample"
)
MOST_HELD = 0.5
"""Of what can be held, however many tasks there were: the rest is left to the new task."""
SHARE_MEANING = (
    "share of the parameters with a curvature, in effective number, that the penalty holds after "
    "one task; every later task takes the like of what is left of their half, so that the other "
    "half stays free; it chooses the strength at every transition, with method.centre=replayed"
)
RADIUS_MEANING = (
    "a number: a hard limit on the quadratic form (eq. 6), instead of the penalty; null: the "
    "penalty"
)

PENALTY_EVERY = 4
"""Updates between proximal steps, each of four times the size, at a quarter of the cost.

A probe that falls between two of them sees a policy that is up to three updates past the last."""
FISHER_BATCH = 512
"""Samples whose gradients are taken at once, unless the network says fewer (`fisher_batch`)."""


class TrustRegion:
    """Keeps parameters near past optima in the metric of their Fisher information.

    Without a radius, (strength/2) value(theta), the last term of eq. 8, acts after each optimiser
    step as a proximal step of the size of the learning rate, decoupled from the optimiser as weight
    decay is in AdamW (Loshchilov, Hutter 2019, arXiv 1711.05101): Adam divides a gradient by its
    own size and would turn a stiff pull along a few directions into a step of constant length.
    With a radius, value(theta) <= radius holds after every update (eq. 6), up to the rounding of
    float32 parameters, by projection; the penalty is its Lagrangian form. Where past optima
    contradict one another by more than the radius, nothing is inside: theta then stays at the
    nearest point of least value, and the metric `trust_region` exceeds the radius.

    `centre`: with "each_optimum", as in eq. 8, every past task pulls towards its own optimum with
    all the strength, all the time. With "before_task" the pull is towards the policy from which the
    current task began (as in Schwarz et al. 2018, arXiv 1805.06370): replay has kept that one good
    at all past tasks, while their own optima may contradict one another; the strength is shared
    between the past tasks, as their sum stiffens with every task, and falls linearly to zero over
    the updates of a task. "replayed" does the same, but nothing is carried from task to task: the
    Fisher is taken at that policy, on the mixture of all replayed samples. "each_optimum_shared"
    only shares the strength, "newest_optimum" only moves the centre. Before a past task is added,
    the metric of those before it is multiplied by `decay`.

    `share`, with "replayed", chooses the strength of every task: a direction of curvature c that
    is left to itself keeps about 1 / (1 + Lambda c) of its way over a task, Lambda the sum of
    rate times strength, so that sum_c Lambda c / (1 + Lambda c) is the effective number of
    parameters that are held (MacKay 1992, Neural Computation 4). After t tasks it is
    h (1 - (1 - share / h)^t) of all that have a curvature, h MOST_HELD: beyond that the strength
    grows so steeply (docs/notebook.md) that the next task is learned badly. One share serves
    sequences whose curvatures lie orders of magnitude apart, where no strength does. Parameters
    that no window reaches (one-hots of tasks to come, taps of a convolution that see padding alone)
    do not count, neither as held nor as free: in a U-Net they are more than half of all.
    """

    def __init__(
        self,
        fisher: Fisher,
        *,
        strength: float | None = None,
        share: float | None = None,
        radius: float | None = None,
        centre: str,
        decay: float = 1.0,
    ):
        by_share = strength is None and radius is None
        if by_share and isinstance(fisher.form(), LowRankForm):
            raise ReconvergeError(
                f"method.strength=null with fisher={fisher.name}: its few directions are no share "
                "of the parameters; give a number, such as 1e4, or fisher=kfac or diagonal"
            )
        if by_share and (share is None or centre != "replayed"):
            raise ReconvergeError(
                f"method.strength=null with method.centre={centre}: give a number, such as 1e5 for "
                "fisher=diagonal; a share of the parameters is for method.centre=replayed"
            )
        if radius is not None and centre != "replayed" and isinstance(fisher.form(), KroneckerForm):
            raise ReconvergeError(
                f"method.radius with fisher={fisher.name} and method.centre={centre}: its forms of "
                "several past tasks have no projection; give another fisher=, or "
                "method=trust_region method.centre=replayed"
            )
        self.fisher, self.radius, self.centre, self.decay = fisher, radius, centre, decay
        self.strength = strength or 0.0  # with a share, of the task that is being learned
        self.share = share if by_share else None
        self.form: QuadraticForm = fisher.form()

    @property
    def memory_bytes(self) -> int:
        """Return the bytes of the past tasks' metrics and centres."""
        return sum(tensor.nbytes for tensor in self.state_dict().values())

    def begin_task(
        self,
        before: Denoiser,
        replayed: Source | None,
        stream: torch.Generator,
        way: float,
        past: int,
    ) -> None:
        """Take the metric at the model before the task, where `centre` is "replayed".

        `way` is the optimiser's over the task, `past` the number of past tasks.
        """
        if self.centre != "replayed" or replayed is None:
            return
        self.form = self.fisher.form()
        self.form.add(self._estimate(before, replayed, stream))
        if self.share is not None:
            self.strength = self.strength_of(self.form, way, past)

    def strength_of(self, form: QuadraticForm, way: float, past: int) -> float:
        """Return the strength by which `form` holds what `past` tasks take of the parameters."""
        held = MOST_HELD * (1 - (1 - (self.share or 0.0) / MOST_HELD) ** past)
        return step_that_holds(form, held) / max(way, 1e-30)

    def end_task(
        self, denoiser: Denoiser, data: Source, theta: Float[Tensor, P], stream: torch.Generator
    ) -> None:
        """Hold one more past task, at whose end the averaged model `denoiser` is at theta."""
        if self.centre == "replayed":
            return
        self.form.scale(self.decay)
        self.form.add(self._estimate(denoiser, data, stream))
        if self.centre in AROUND_THE_POLICY_BEFORE:
            self.form.recentre(theta)

    def _estimate(self, denoiser: Denoiser, data: Source, stream: torch.Generator) -> Any:
        """Take the Fisher of `denoiser`, over samples and diffusion steps drawn uniformly.

        Wang et al. 2025, arXiv 2509.23593.
        """
        samples = self.fisher.samples
        most = getattr(denoiser.network, "fisher_batch", FISHER_BATCH)
        counts = [min(most, samples - i) for i in range(0, samples, most)]
        drawn = [corrupt(denoiser, data.sample(count, stream), stream) for count in counts]
        if self.fisher.targets == "policy":
            drawn = [imagined(denoiser, sample, stream) for sample in drawn]
        parameters = dict(denoiser.network.named_parameters())
        loss = half_squared_errors(denoiser)
        return self.fisher.estimate(loss, parameters, [s.tensors for s in drawn])

    def hold(
        self, theta: Float[Tensor, P], rate: float, update: int, updates: int | None
    ) -> dict[str, float]:
        """Correct theta in place after the `update`-th step of a task, taken at `rate`.

        Return what is logged.
        """
        if self.radius is not None:
            return {"trust_region": self.form.project(theta, self.radius)}
        if update % PENALTY_EVERY:
            return {}
        strength = self.strength_at(update, updates)
        value = self.form.shrink(theta, PENALTY_EVERY * rate * strength)
        return {"penalty": 0.5 * strength * value, "strength": strength}

    def strength_at(self, update: int, updates: int | None) -> float:
        """Return the strength that every past task has after `update` of a task's `updates`."""
        falling = 1.0
        if self.centre in ("before_task", "replayed") and updates is not None:
            falling = 1.0 - update / updates
        return self.strength * falling / self.shared_by(len(self.form))

    def shared_by(self, past: int) -> int:
        """Return the number that divides the strength after `past` tasks.

        With "replayed" one metric, the mean of the tasks', has all of it, and each task this part.
        """
        shared = ("before_task", "replayed", "each_optimum_shared")
        return max(1, past) if self.centre in shared else 1

    def state_dict(self) -> dict[str, Tensor]:
        """Return the past tasks; none with "replayed", where `begin_task` finds them again."""
        return {} if self.centre == "replayed" else self.form.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.form.load_state_dict(state)


def step_that_holds(form: QuadraticForm, share: float) -> float:
    """Return the step at which the form holds a `share` of its curvatures, in effective number; 0
    where it has none.
    """
    spectrum = form.spectrum()
    spectrum = spectrum[spectrum > 0]
    if not len(spectrum):
        return 0.0
    free = (1.0 - share) * len(spectrum)
    return least_step(lambda step: float((1 / (1 + step * spectrum)).sum()), free)
