"""Elastic weight consolidation, with the Fisher of `fisher=` and without replay.

L(theta) = L_t(theta; D_t) + (lambda/2) sum_{i<t} (theta - theta*_i)^T F_i (theta - theta*_i)

Kirkpatrick et al. 2017, arXiv 1612.00796. After each task its Fisher F_i is taken at the optimum
theta*_i; the penalty acts as a proximal step after every optimiser step (`TrustRegion.hold`).
"""

from dataclasses import dataclass

from reconverge.options import option
from reconverge.policy.continual.learner import Learner, Method, Setting
from reconverge.policy.continual.region import (
    CENTRES,
    RADIUS_MEANING,
    STRENGTH_MEANING,
    TrustRegion,
    centre_meaning,
)

WITHOUT_REPLAY = tuple(centre for centre in CENTRES if centre != "replayed")


@dataclass(frozen=True)
class EwcOptions:
    """Fisher penalty around each past optimum, no replay."""

    name: str = "ewc"
    strength: float = option(1e4, STRENGTH_MEANING, at_least=0)
    centre: str = option("each_optimum", centre_meaning(WITHOUT_REPLAY), choices=WITHOUT_REPLAY)
    radius: float | None = option(None, RADIUS_MEANING, at_least=0)

    def build(self, setting: Setting) -> Method:
        region = TrustRegion(
            setting.fisher, strength=self.strength, radius=self.radius, centre=self.centre
        )
        return Learner(setting, region=region)
