"""An L2 penalty around each past optimum: elastic weight consolidation with F_i = I.

L(theta) = L_t(theta; D_t) + (lambda/2) sum_{i<t} |theta - theta*_i|^2

The reference of Kirkpatrick et al. 2017, arXiv 1612.00796, and of Continual World (Wolczyk et al.
2021, arXiv 2105.10919). It acts as a proximal step, as the penalty of `ewc` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reconverge.options import option
from reconverge.policy.continual.denoising import PerSampleLoss
from reconverge.policy.continual.learner import Learner, Method, Setting
from reconverge.policy.continual.parameter_vector import concatenate
from reconverge.policy.continual.quadratic import Diagonal, DiagonalForm
from reconverge.policy.continual.region import TrustRegion


@dataclass(frozen=True)
class L2Options:
    """L2 penalty around each past optimum, no replay."""

    name: str = "l2"
    strength: float = option(100.0, "lambda, the penalty's weight", at_least=0)

    def build(self, setting: Setting) -> Method:
        region = TrustRegion(Identity(), strength=self.strength, centre="each_optimum")
        return Learner(setting, region=region)


@dataclass(frozen=True)
class Identity:
    """The metric I, whatever the data."""

    name: str = "identity"
    samples: int = 1
    targets: str = "demonstrations"

    def estimate(
        self,
        per_sample_loss: PerSampleLoss,
        params: Mapping[str, Tensor],
        batches: Iterable[tuple[Tensor, ...]],
    ) -> Diagonal:
        theta = concatenate(params)
        return Diagonal(torch.ones_like(theta[:1]), theta)

    def form(self) -> DiagonalForm:
        return DiagonalForm()
