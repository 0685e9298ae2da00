"""Memory aware synapses: a penalty by how much each parameter moves the network's output.

L(theta) = L_t(theta; D_t) + (lambda/2) sum_j Omega_j (theta_j - theta*_{t-1,j})^2
Omega = sum_{i<t} E|d |f(x; theta*_i)|^2 / d theta|

Aljundi et al. 2018, arXiv 1711.09601, eq. 3 to 5; the targets of the data do not enter. f is the
denoising network, x its inputs, noisy actions, diffusion step and condition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reconverge.options import option
from reconverge.policy.continual.denoising import PerSampleLoss
from reconverge.policy.continual.fisher import SAMPLES_MEANING, sample_gradients
from reconverge.policy.continual.learner import Learner, Method, Setting
from reconverge.policy.continual.parameter_vector import concatenate
from reconverge.policy.continual.quadratic import Diagonal, DiagonalForm
from reconverge.policy.continual.region import TrustRegion


@dataclass(frozen=True)
class MasOptions:
    """Penalty by each parameter's effect on the network's output, no replay."""

    name: str = "mas"
    strength: float = option(1e3, "lambda, the penalty's weight", at_least=0)
    samples: int = option(
        512, SAMPLES_MEANING.replace("the Fisher is", "the importances are"), at_least=1
    )

    def build(self, setting: Setting) -> Method:
        importance = Importance(samples=self.samples)
        region = TrustRegion(importance, strength=self.strength, centre="newest_optimum")
        return Learner(setting, region=region)


@dataclass(frozen=True)
class Importance:
    """The metric diag(Omega), estimated over `samples` windows."""

    name: str = "importance"
    samples: int = 512
    targets: str = "demonstrations"

    def estimate(
        self,
        per_sample_loss: PerSampleLoss,
        params: Mapping[str, Tensor],
        batches: Iterable[tuple[Tensor, ...]],
    ) -> Diagonal:
        """Return the importances at theta* = params."""
        at = {name: parameter.detach() for name, parameter in params.items()}
        theta, count = concatenate(at), 0
        total = torch.zeros_like(theta, dtype=torch.float64)
        for *inputs, target in batches:
            # Half the squared error to 0 is |f|^2 / 2.
            batch = (*inputs, torch.zeros_like(target))
            for gradients in sample_gradients(per_sample_loss, at, batch):
                total += 2.0 * gradients.abs().sum(0)
                count += len(gradients)
        return Diagonal(total / count, theta.double())

    def form(self) -> DiagonalForm:
        return DiagonalForm()
