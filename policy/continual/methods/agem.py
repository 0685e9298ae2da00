"""Averaged gradient episodic memory: a step that would raise the replayed loss is projected.

g <- g - (g^T g_ref / g_ref^T g_ref) g_ref, where g^T g_ref < 0

Chaudhry et al. 2019, arXiv 1812.00420, eq. 11. g is the gradient of the new task's loss, g_ref that
of the plain denoising loss on samples of all earlier tasks. As in the paper's experiments and in
Continual World the optimiser's step follows; AdamW's moments and weight decay are not projected.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reconverge.policy.continual.denoising import Batch, NoisySample, errors
from reconverge.policy.continual.learner import Method, Metrics, Setting
from reconverge.policy.continual.methods.er import ExperienceReplay


@dataclass(frozen=True)
class AgemOptions:
    """A-GEM: the gradient is projected where it would raise the loss on replayed windows."""

    name: str = "agem"

    def build(self, setting: Setting) -> Method:
        return AverageGem(setting, self.name)


class AverageGem(ExperienceReplay):
    """Replayed samples bound the gradient instead of adding to it."""

    def update(self, batch: Batch) -> Metrics:
        """Take one optimiser step down the projected gradient."""
        new, old = self.prepare(batch).split()
        loss, metrics = self.loss(new)
        gradient = self.optimization.differentiate(loss)
        if old.taught:
            metrics |= self._project(gradient, old)
        return self.finish(metrics, self.optimization.descend())

    def _project(self, gradient: Tensor, old: NoisySample) -> dict[str, Tensor]:
        """Project the gradient [P], which is the optimiser's buffer; return what is logged."""
        g = gradient.clone()
        with self.optimization.products():
            loss = errors(self.optimization.model, old).mean()
        g_ref = self.optimization.differentiate(loss)
        product = g @ g_ref
        if product < 0:
            g -= product / (g_ref @ g_ref) * g_ref
        gradient.copy_(g)
        return {self.replay_metric: loss.detach(), "projected": (product < 0).float()}
