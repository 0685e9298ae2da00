"""The tasks in gymnasium's registry: `gymnasium.make("reconverge/lift-v0")`."""

from __future__ import annotations

import re

import gymnasium

from reconverge.envs.catalog import TASKS


def env_id(name: str) -> str:
    """Return gymnasium's name of a task, `reconverge/<name>-v0`; odd characters become dashes."""
    return f"reconverge/{re.sub(r'[^0-9A-Za-z_.-]', '-', name)}-v0"


def register_tasks() -> None:
    """Register every row of TASKS, those again that are registered already.

    Importing `reconverge.envs` does so; do it once more for rows added since.
    """
    for task in TASKS.values():
        gymnasium.registry.pop(env_id(task.name), None)
        gymnasium.register(
            env_id(task.name),
            "reconverge.envs.gymnasium_env:UntimedTaskEnv",
            max_episode_steps=task.max_steps,
            kwargs={"task": task.name},
            vector_entry_point="reconverge.envs.gymnasium_vector:TaskVectorEnv",
        )
