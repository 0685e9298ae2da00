"""What the trust region costs: an update of `trust_region` against one of `replay`, in turns.

python -m tools.benchmark.update [option=value ...]      (options of policy.train; on a GPU if any)

The tasks, the windows and the two methods are its own, and so are replay.pool, replay.updates and
fisher.samples, which the time of an update does not depend on.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import numpy as np
import torch

from reconverge.configs import commandline
from reconverge.datasets.windows import Windows
from reconverge.envs.catalog import task_sequence, widest
from reconverge.policy.continual.denoising import random_stream
from reconverge.policy.continual.learner import Method
from reconverge.policy.continual.methods.replay import ReplayOptions
from reconverge.policy.continual.methods.trust_region import TrustRegionOptions
from reconverge.policy.model.batch import widened
from reconverge.policy.runs.build import TaskWindows, make_method, make_replay, make_spec
from reconverge.policy.runs.configuration import TRAIN, TrainOptions
from reconverge.policy.runs.loading import find_device, make_normalizer, make_policy
from reconverge.tools.benchmark.origin import origin, publish, ratio

ROUNDS, UPDATES = 10, 20
"""Rounds of both methods in turn, and updates of each in a round (whole periods of the penalty)."""
EPISODES, STEPS = 50, 100
SEQUENCE = "lift,can,square"


def main() -> None:
    usage = "python -m tools.benchmark.update device=cpu"
    commandline.run(replace(TRAIN, usage=usage), run, "hydra.run.dir=.")


def run(options: TrainOptions) -> None:
    """Time both methods after two tasks of random windows; print medians and one JSON line."""
    # Only the use of replay and Fisher is timed, not their making.
    options = replace(
        options,
        replay=replace(options.replay, pool=512, updates=1),
        fisher=replace(options.fisher, samples=512),
    )
    device = find_device(options.device)
    tried = {"replay": ReplayOptions(), "trust_region": TrustRegionOptions()}
    methods = {
        name: _prepared(replace(options, method=method), device) for name, method in tried.items()
    }
    windows = _windows(options, 2, device)
    times: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(ROUNDS + 2):
        for name, method in methods.items():
            start = time.perf_counter()
            for update in range(UPDATES):
                stream = random_stream(torch.device("cpu"), turn, update)
                method.update(windows.sample(options.batch_size, stream))
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:  # warm
                times[name].append((time.perf_counter() - start) / UPDATES)
    medians = {f"{name}_ms": 1e3 * statistics.median(values) for name, values in times.items()}
    report = {
        **{name: round(value, 2) for name, value in medians.items()},
        "ratio": ratio(times["trust_region"], times["replay"]),
        "parameters": sum(p.numel() for p in methods["replay"].model.network.parameters()),
        "past_tasks": 2,
        **origin(["torch"], device.type),
    }
    publish(report)


def _prepared(options: TrainOptions, device: torch.device) -> Method:
    """Return the method in its third task, after one update on each of the first two."""
    tasks = task_sequence(SEQUENCE)
    torch.manual_seed(options.seed)
    spec = make_spec(options, tasks)
    normalizer = make_normalizer(spec, tasks).to(device)
    replay = make_replay(options, spec, normalizer, [], None)
    method = make_method(options, spec, make_policy(spec, normalizer), replay, None)
    for task in range(2):
        source = _windows(options, task, device)
        method.begin_task(task, 1)
        method.update(source.sample(options.batch_size, random_stream(torch.device("cpu"), task)))
        for _ in method.end_task(source):
            pass
    method.begin_task(2, (ROUNDS + 2) * UPDATES)
    return method


def _windows(options: TrainOptions, task: int, device: torch.device) -> TaskWindows:
    rng = np.random.default_rng(task)
    row = task_sequence(SEQUENCE)[task]
    seen = rng.uniform(row.low, row.high, (EPISODES * STEPS, row.observation_size))
    observations = widened(seen.astype(np.float32), widest(row.suite)[0])
    actions = rng.uniform(-1, 1, (EPISODES * STEPS, row.action_size)).astype(np.float32)
    ends = np.arange(1, EPISODES + 1) * STEPS
    steps = options.n_obs_steps, options.horizon
    return TaskWindows(Windows.from_episodes(observations, actions, ends, *steps, device), task)


if __name__ == "__main__":
    main()
