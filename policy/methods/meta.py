"""First-order meta-learners with replay: after an inner step on one half of a batch, the other half is to be easy.

The inner step of size `inner_rate` goes down the gradient of both terms of the loss (new task and replay) on the
support half; the meta-gradient is that of the query half at the stepped parameters. One inner step, first order, even
split, with the same replay as the other methods: as the paper runs its baselines (arXiv 2602.02417, section 5).
"""

from __future__ import annotations

from torch import Tensor

from policy.agent import Batch
from policy.methods.base import Denoising, Learner, Method, Metrics, Parts


class MetaLearner(Learner):
    """FTML (arXiv 1902.08438), or with `variance_reduction` VR-MCL (Wu et al., ICLR 2024).

    Variance reduction: g_t = G(theta_t; B_t) + momentum (g_{t-1} - G(theta_{t-1}; B_t)), G the meta-gradient on one
    batch, at twice the cost (the recursive estimate of STORM, arXiv 1905.10018).
    """

    def __init__(self, parts: Parts, *, variance_reduction: bool):
        super().__init__(parts, replay=True, trust_region=False)
        self._reduce = variance_reduction
        self._last: tuple[Tensor, Tensor] | None = None  # parameters and estimate of the update before

    def begin_task(self, task: int, updates: int, *, continued: bool = False) -> None:
        super().begin_task(task, updates, continued=continued)
        if not continued:
            self._last = None

    def update(self, batch: Batch) -> Metrics:
        """One optimiser step down the meta-gradient."""
        part, theta = self._prepare(batch), self._optimization.vector
        gradient, metrics = self._meta_gradient(part)
        if self._reduce:
            now, estimate = theta.clone(), gradient.clone()
            if self._last is not None:
                before, previous = self._last
                theta.copy_(before)
                correction = previous - self._meta_gradient(part)[0]
                theta.copy_(now)
                estimate.add_(correction, alpha=self._parts.momentum)
            self._last = now, estimate
            gradient.copy_(estimate)
        return self._finish(metrics, self._optimization.descend())

    def state_dict(self) -> dict[str, Tensor]:
        state = super().state_dict()
        if self._last is not None:
            state |= {"meta/parameters": self._last[0], "meta/estimate": self._last[1]}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._last = None
        if "meta/estimate" in state:
            device = self._optimization.vector.device
            self._last = state["meta/parameters"].to(device), state["meta/estimate"].to(device)

    def _meta_gradient(self, part: Denoising) -> tuple[Tensor, dict[str, Tensor]]:
        """In the optimiser's buffer, with what there is to log; the parameters are left as they were."""
        theta = self._optimization.vector
        start = theta.clone()
        inner = self._optimization.differentiate(self._loss(part.take(0))[0])
        theta.add_(inner, alpha=-self._parts.inner_rate)
        loss, metrics = self._loss(part.take(1))
        gradient = self._optimization.differentiate(loss)
        theta.copy_(start)
        return gradient, metrics


def ftml(parts: Parts) -> Method:
    return MetaLearner(parts, variance_reduction=False)


def vr_mcl(parts: Parts) -> Method:
    return MetaLearner(parts, variance_reduction=True)
