"""First-order meta-learners with replay: a step on one half of a batch should help the other.

The inner step of size `inner_rate` goes down the gradient of both terms of the loss (new task and
replay) on the support half; the meta-gradient is that of the query half at the stepped parameters.
One inner step, first order, even split, with the same replay as the other methods: as Wang et al.
2026 run their baselines (arXiv 2602.02417, section 5).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.options import option
from reconverge.policy.continual.denoising import Batch, NoisySample
from reconverge.policy.continual.learner import (
    DISTILLATION_MEANING,
    Learner,
    Method,
    Metrics,
    Setting,
)
from reconverge.policy.continual.rehearsal import required

INNER_RATE_MEANING = "step size of the inner update"


@dataclass(frozen=True)
class FtmlOptions:
    """First-order meta-learning with replay: follow the meta leader (Finn et al. 2019)."""

    name: str = "ftml"
    distillation_weight: float = option(1.0, DISTILLATION_MEANING, at_least=0)
    inner_rate: float = option(1e-4, INNER_RATE_MEANING, at_least=0)

    def build(self, setting: Setting) -> Method:
        return MetaLearner(setting, self, momentum=None)


@dataclass(frozen=True)
class VrMclOptions:
    """As ftml, with a variance-reduced meta-gradient (Wu et al. 2024, ICLR)."""

    name: str = "vr_mcl"
    distillation_weight: float = option(1.0, DISTILLATION_MEANING, at_least=0)
    inner_rate: float = option(1e-4, INNER_RATE_MEANING, at_least=0)
    momentum: float = option(
        0.9,
        "weight of the previous gradient estimate, corrected on the new batch",
        at_least=0,
        at_most=1,
    )

    def build(self, setting: Setting) -> Method:
        return MetaLearner(setting, self, momentum=self.momentum)


class MetaLearner(Learner):
    """FTML (Finn et al. 2019, arXiv 1902.08438), or with `momentum` VR-MCL (Wu et al. 2024).

    Variance reduction: g_t = G(theta_t; B_t) + momentum (g_{t-1} - G(theta_{t-1}; B_t)), G the
    meta-gradient on one batch, at twice the cost (the recursive estimate of STORM: Cutkosky,
    Orabona 2019, arXiv 1905.10018).
    """

    def __init__(
        self, setting: Setting, options: FtmlOptions | VrMclOptions, momentum: float | None
    ):
        replay = required(setting.replay, options.name)
        if min(setting.batch_size, replay.batch_size) < 2:
            raise ReconvergeError(
                f"method={options.name} halves its batches: batch_size and replay.batch_size at "
                "least 2"
            )
        super().__init__(setting, replay=replay, distillation_weight=options.distillation_weight)
        self._inner_rate, self._momentum = options.inner_rate, momentum
        # Parameters and estimate of the update before.
        self._last: tuple[Tensor, Tensor] | None = None

    def begin_task(self, task: int, updates: int, *, continued: bool = False) -> None:
        super().begin_task(task, updates, continued=continued)
        if not continued:
            self._last = None

    def update(self, batch: Batch) -> Metrics:
        """Take one optimiser step down the meta-gradient."""
        part, theta = self.prepare(batch), self.optimization.vector
        gradient, metrics = self._meta_gradient(part)
        if self._momentum is not None:
            now, estimate = theta.clone(), gradient.clone()
            if self._last is not None:
                before, previous = self._last
                theta.copy_(before)
                correction = previous - self._meta_gradient(part)[0]
                theta.copy_(now)
                estimate.add_(correction, alpha=self._momentum)
            self._last = now, estimate
            gradient.copy_(estimate)
        return self.finish(metrics, self.optimization.descend())

    def state_dict(self) -> dict[str, Tensor]:
        state = super().state_dict()
        if self._last is not None:
            state |= {"meta/parameters": self._last[0], "meta/estimate": self._last[1]}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._last = None
        if "meta/estimate" in state:
            device = self.optimization.vector.device
            self._last = state["meta/parameters"].to(device), state["meta/estimate"].to(device)

    def _meta_gradient(self, part: NoisySample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the meta-gradient, in the optimiser's buffer, and what is logged."""
        theta = self.optimization.vector
        start = theta.clone()
        inner = self.optimization.differentiate(self.loss(part.half(0))[0])
        theta.add_(inner, alpha=-self._inner_rate)
        loss, metrics = self.loss(part.half(1))
        gradient = self.optimization.differentiate(loss)
        theta.copy_(start)
        return gradient, metrics
