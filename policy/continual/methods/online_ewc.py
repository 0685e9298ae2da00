"""Online elastic weight consolidation: one running Fisher, centred on the newest optimum.

L(theta) = L_t(theta; D_t) + (lambda/2) (theta - theta*_{t-1})^T F_{t-1} (theta - theta*_{t-1})
F_t = gamma F_{t-1} + Fisher of task t at theta*_t

Schwarz et al. 2018, arXiv 1805.06370, section 3.2; their further factor gamma in the penalty is
part of lambda. With fisher=diagonal two vectors hold all past tasks; fisher=kfac keeps
the factors of each.
"""

from dataclasses import dataclass

from reconverge.options import option
from reconverge.policy.continual.learner import Learner, Method, Setting
from reconverge.policy.continual.region import STRENGTH_MEANING, TrustRegion


@dataclass(frozen=True)
class OnlineEwcOptions:
    """One running Fisher penalty around the newest optimum, no replay."""

    name: str = "online_ewc"
    strength: float = option(1e4, STRENGTH_MEANING, at_least=0)
    decay: float = option(
        0.95,
        "gamma, by which the Fisher of earlier tasks is multiplied after each task",
        at_least=0,
        at_most=1,
    )

    def build(self, setting: Setting) -> Method:
        region = TrustRegion(
            setting.fisher, strength=self.strength, centre="newest_optimum", decay=self.decay
        )
        return Learner(setting, region=region)
