"""Stores that differ from those of our own experts."""

import numpy as np

from reconverge.datasets.store import DemonstrationStore, Episode
from support.physics import record

OWN = {
    "schema_version",
    "episodes",
    "observation_sizes",
    "action_size",
    "extra_sizes",
    "scalar_types",
    "sums",
    "checksum",
}


def rewrite(source, target, change=lambda actions: actions, **attributes):
    """Copy a store with other executed actions and attributes (None: left out)."""
    kept = {
        name: value for name, value in source.attributes.items() if name not in OWN
    } | attributes
    store = DemonstrationStore.create(
        target,
        source.observation_sizes,
        source.action_size,
        {name: value for name, value in kept.items() if value is not None},
        extra_sizes=source.attributes["extra_sizes"],
        scalar_types=source.attributes["scalar_types"],
    )
    for i in range(len(source)):
        e = source.episode(i)
        executed = {"executed_action": change(e.extras["executed_action"])}
        store.append(Episode(e.observations, e.action, e.reward, e.success, executed, e.scalars))
    return store


def store_from_elsewhere(simulator, path, **attributes):
    """Make a store as a converter does: states, no seed, no expert, keys in another order, actions
    in the world frame.
    """
    task = simulator.task
    sizes = {"extra_key": 1, **dict(reversed(task.sizes.items()))}
    store = DemonstrationStore.create(
        path,
        sizes,
        7,
        {"input_frame": "world", "env_args": {"env_name": task.simulator}, **attributes},
        extra_sizes={"states": simulator.model.nq + simulator.model.nv + 1},
    )
    for seed in range(2):
        observations, actions, states = record(simulator, seed)
        named = task.split(observations) | {"extra_key": np.zeros((len(actions), 1), np.float32)}
        success = np.arange(len(actions)) == len(actions) - 1
        single = {"states": states.astype(np.float32)}
        store.append(
            Episode(named, actions.astype(np.float32), success.astype(np.float32), success, single)
        )
    return store
