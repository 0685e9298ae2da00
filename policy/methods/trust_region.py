"""Trust-region continual learning (arXiv 2602.02417): replay and the Fisher-metric penalty together, all of eq. 8."""

from policy.methods.base import Learner, Method, Parts


def trust_region(parts: Parts) -> Method:
    return Learner(parts, replay=True, trust_region=True)
