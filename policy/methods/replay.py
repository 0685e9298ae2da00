"""Replay with distillation: the previous policy teaches the new one on windows of earlier tasks (L_GD of eq. 8)."""

from policy.methods.base import Learner, Method, Parts


def replay(parts: Parts) -> Method:
    return Learner(parts, replay=True, trust_region=False)
