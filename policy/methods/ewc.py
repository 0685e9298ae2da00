"""Elastic weight consolidation (arXiv 1612.00796) with the Fisher of `fisher=`: the penalty of eq. 8, no replay."""

from policy.methods.base import Learner, Method, Parts


def ewc(parts: Parts) -> Method:
    return Learner(parts, replay=False, trust_region=True)
