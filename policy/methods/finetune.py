"""Plain fine-tuning: nothing holds the earlier tasks. The lower reference of continual learning."""

from policy.methods.base import Learner, Method, Parts


def finetune(parts: Parts) -> Method:
    return Learner(parts, replay=False, trust_region=False)
