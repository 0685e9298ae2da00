"""Experience replay: the plain denoising loss on samples of earlier tasks, without a teacher.

L(theta) = L_t(theta; D_t) + beta sum_{i<t} L_i(theta; M_i)

Chaudhry et al. 2019, arXiv 1902.10486. M_i are replayed samples of task i; with
replay=demonstrations they are stored ones, as many as `replay.budget` keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reconverge.options import option
from reconverge.policy.continual.denoising import NoisySample
from reconverge.policy.continual.learner import Learner, Method, Setting
from reconverge.policy.continual.rehearsal import required


@dataclass(frozen=True)
class ErOptions:
    """Experience replay: the plain denoising loss on replayed windows, no teacher."""

    name: str = "er"
    replay_weight: float = option(
        1.0, "weight of the loss on each earlier task's replayed windows", at_least=0
    )

    def build(self, setting: Setting) -> Method:
        return ExperienceReplay(setting, self.name, self.replay_weight)


class ExperienceReplay(Learner):
    """Replayed samples keep the targets of their data."""

    replay_metric = "replayed"

    def __init__(self, setting: Setting, name: str, replay_weight: float = 1.0):
        replay = required(setting.replay, name)
        super().__init__(setting, replay=replay, distillation_weight=replay_weight)

    def teach(self, sample: NoisySample, replayed: int) -> NoisySample:
        return replace(sample, taught=replayed)
