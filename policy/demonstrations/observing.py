"""A task's observations, made by its simulator of the states that others recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from reconverge.datasets.formats.arrays import ConversionError
from reconverge.datasets.formats.exchange import Demonstrations
from reconverge.datasets.layout import Episode
from reconverge.envs.suites import SUITES, make_simulator
from reconverge.envs.suites.suite import Simulator
from reconverge.envs.task import Task
from reconverge.errors import ReconvergeError
from reconverge.policy.demonstrations.fit import STATES


def observed(demonstrations: Demonstrations, task: Task | None) -> Demonstrations:
    """Return demonstrations with the observations of `task`, of the states before each action.

    Other arrays of the source stay, as extras. Raises ConversionError where there are no states, or
    no task whose simulator takes them, and for a state of another size when it is reached.
    """
    source = demonstrations.source
    if task is None:
        raise ConversionError(
            f"{source}: observations=states: of which task it is cannot be told; add task=<name>"
        )
    if not SUITES[task.suite].restores_states:
        raise ConversionError(
            f"{source}: observations=states: {task.name} starts from seeds only; leave it out"
        )
    if STATES not in demonstrations.extra_sizes:
        raise ConversionError(
            f"{source}: observations=states: has no array {STATES!r}; leave it out"
        )
    kept = {
        name: size
        for name, size in {
            **demonstrations.extra_sizes,
            **demonstrations.observation_sizes,
        }.items()
        if name not in task.observations
    }
    return replace(
        demonstrations,
        episodes=_observed(demonstrations, task, kept),
        observation_sizes=task.sizes,
        extra_sizes=kept,
    )


def _observed(
    demonstrations: Demonstrations, task: Task, kept: dict[str, int]
) -> Iterator[tuple[Episode, dict[str, Any]]]:
    simulator = make_simulator(task)
    simulated = simulator.new_episode()
    for number, (episode, own) in enumerate(demonstrations.episodes):
        arrays = {**episode.extras, **episode.observations}
        try:
            flat = observe_states(simulator, simulated, arrays[STATES])
        except ReconvergeError as error:
            raise ConversionError(f"{demonstrations.source}: episode {number}: {error}") from error
        extras = {name: arrays[name] for name in kept}
        yield replace(episode, observations=task.split(flat), extras=extras), own


def observe_states(
    simulator: Simulator, episode: Any, states: Float[np.ndarray, "T S"]
) -> Float[np.ndarray, "T Do"]:
    """Return what is observed in every state."""
    seen = np.empty((len(states), simulator.task.observation_size), np.float32)
    for row, state in zip(seen, states, strict=True):
        simulator.restore(episode, np.asarray(state, np.float64))
        row[:] = simulator.observe([episode])[0]
    return seen
