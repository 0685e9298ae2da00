"""Plain fine-tuning: nothing holds the earlier tasks. The lower reference of continual learning.

L(theta) = L_t(theta; D_t)
"""

from dataclasses import dataclass

from reconverge.policy.continual.learner import Learner, Method, Setting


@dataclass(frozen=True)
class FinetuneOptions:
    """Nothing holds the earlier tasks."""

    name: str = "finetune"

    def build(self, setting: Setting) -> Method:
        return Learner(setting)
