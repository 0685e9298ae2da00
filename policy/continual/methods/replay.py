"""Replay with distillation: the previous policy teaches the new one on samples of earlier tasks.

L(theta) = L_t(theta; D_t) + beta sum_{i<t} L_GD,i(theta)

The second term of eq. 8 of Wang et al. 2026, arXiv 2602.02417: on replayed samples the network
matches the answers of the frozen policy before the task (Masip et al. 2025, arXiv 2311.14028).
"""

from dataclasses import dataclass

from reconverge.options import option
from reconverge.policy.continual.learner import DISTILLATION_MEANING, Learner, Method, Setting
from reconverge.policy.continual.rehearsal import required


@dataclass(frozen=True)
class ReplayOptions:
    """The previous policy teaches the new one on replayed windows."""

    name: str = "replay"
    distillation_weight: float = option(1.0, DISTILLATION_MEANING, at_least=0)

    def build(self, setting: Setting) -> Method:
        replay = required(setting.replay, self.name)
        return Learner(setting, replay=replay, distillation_weight=self.distillation_weight)
