"""Trust-region continual learning: replay and the Fisher-metric penalty together.

L(theta) = L_t(theta; D_t) + beta sum_{i<t} L_GD,i(theta)
           + (lambda/2) sum_{i<t} (theta - theta*_i)^T F_i (theta - theta*_i)

Wang et al. 2026, arXiv 2602.02417 eq. 8. With centre=replayed, the default, all theta*_i are the
policy before the task, and the F_i one Fisher of replayed samples (`TrustRegion` says why). With
centre=each_optimum, a strength and without replay it is EWC.
"""

from dataclasses import dataclass

from reconverge.options import option
from reconverge.policy.continual.learner import DISTILLATION_MEANING, Learner, Method, Setting
from reconverge.policy.continual.region import (
    CENTRES,
    MOST_HELD,
    RADIUS_MEANING,
    SHARE_MEANING,
    STRENGTH_MEANING,
    TrustRegion,
    centre_meaning,
)
from reconverge.policy.continual.rehearsal import required


@dataclass(frozen=True)
class TrustRegionOptions:
    """Replay and a Fisher penalty together."""

    name: str = "trust_region"
    distillation_weight: float = option(1.0, DISTILLATION_MEANING, at_least=0)
    share: float = option(0.1, SHARE_MEANING, above=0, below=MOST_HELD)
    strength: float | None = option(
        None, STRENGTH_MEANING + "; null: as method.share says", at_least=0
    )
    centre: str = option("replayed", centre_meaning(CENTRES), choices=tuple(CENTRES))
    radius: float | None = option(None, RADIUS_MEANING, at_least=0)

    def build(self, setting: Setting) -> Method:
        if self.centre == "replayed":
            required(setting.replay, f"{self.name} method.centre=replayed")
        region = TrustRegion(
            setting.fisher,
            strength=self.strength,
            share=self.share,
            radius=self.radius,
            centre=self.centre,
        )
        return Learner(
            setting,
            replay=setting.replay,
            distillation_weight=self.distillation_weight,
            region=region,
        )
