"""Continual diffusion policies: learn robot tasks one after another, forget none, recover fast.

The public interface; everything else may change between releases. A name loads its module when it
is first used, so that importing the package costs nothing. Where gymnasium is in use already, the
tasks are registered at once.

    import reconverge

    summary = reconverge.train(env=["lift", "can"], name="two")
    loaded = reconverge.load_policy("runs/two")
    seeds = range(10_000_000, 10_000_050)
    for result in reconverge.evaluate(loaded, loaded.tasks, seeds):
        print(result.task, result.success, result.interval)
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from reconverge.plugins import load_plugins

if TYPE_CHECKING:
    from reconverge.datasets.layout import Episode
    from reconverge.datasets.store import DemonstrationStore
    from reconverge.envs.catalog import TASKS, get_task, task_sequence
    from reconverge.envs.gymnasium_env import TaskEnv
    from reconverge.envs.rollout import Actor, Rollout, rollout
    from reconverge.envs.task import Task
    from reconverge.envs.vector import VectorEnv
    from reconverge.errors import ReconvergeError
    from reconverge.launch import train
    from reconverge.policy.demonstrations.scripted import collect
    from reconverge.policy.deployment.package import Package, load_package
    from reconverge.policy.runs.evaluation import Evaluation, evaluate
    from reconverge.policy.runs.loading import LoadedPolicy, load_policy
    from reconverge.policy.runs.summary import Summary

__all__ = [
    "TASKS",
    "Actor",
    "DemonstrationStore",
    "Episode",
    "Evaluation",
    "LoadedPolicy",
    "Package",
    "ReconvergeError",
    "Rollout",
    "Summary",
    "Task",
    "TaskEnv",
    "VectorEnv",
    "collect",
    "evaluate",
    "get_task",
    "load_package",
    "load_policy",
    "rollout",
    "task_sequence",
    "train",
]

_MODULES = {
    "datasets.layout": ("Episode",),
    "datasets.store": ("DemonstrationStore",),
    "envs.catalog": ("TASKS", "get_task", "task_sequence"),
    "envs.task": ("Task",),
    "envs.gymnasium_env": ("TaskEnv",),
    "envs.rollout": ("Actor", "Rollout", "rollout"),
    "envs.vector": ("VectorEnv",),
    "errors": ("ReconvergeError",),
    "launch": ("train",),
    "policy.demonstrations.scripted": ("collect",),
    "policy.deployment.package": ("Package", "load_package"),
    "policy.runs.evaluation": ("Evaluation", "evaluate"),
    "policy.runs.loading": ("LoadedPolicy", "load_policy"),
    "policy.runs.summary": ("Summary",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that holds it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    load_plugins()
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names too that are not loaded yet."""
    return sorted({*globals(), *__all__})


if "gymnasium" in sys.modules:
    import_module("reconverge.envs")
