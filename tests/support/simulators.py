"""Simulators that several tests share instead of making one each."""

from dataclasses import replace

from reconverge.envs.suites import SUITES


def use_simulators(patch, suite, make):
    """Let the suite make its simulators by `make(task)`."""
    patch.setitem(SUITES, suite, replace(SUITES[suite], make=make))
