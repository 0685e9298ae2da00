"""What the trust region costs: an update of `trust_region` against one of `replay`, in turns, in one process.

python -m tools.benchmark.update [option=value ...]      (options of configs/train.yaml; on a GPU where there is one)
"""

from __future__ import annotations

import json
import statistics
import time

import numpy as np
import torch
from omegaconf import DictConfig

from configs import commandline
from datasets.windows import Windows
from envs.tasks import task_sequence
from policy.assembly import make_parts, make_spec
from policy.generator import make_generator
from policy.loading import find_device, make_normalizer, make_policy
from policy.methods import build_method
from policy.methods.base import Method, random_stream
from policy.optimization import OptimizerSettings
from policy.record import hardware
from policy.replay import GeneratedReplay
from policy.training import TaskWindows

ROUNDS, UPDATES = 10, 20
"""Rounds of both methods in turn, and updates of each in a round (a multiple of the penalty's period)."""
EPISODES, STEPS = 50, 100


def main() -> None:
    commandline.run("train", run, "hydra.run.dir=.")


def run(config: DictConfig) -> None:
    """Both methods after two tasks of random windows; prints medians and one JSON line."""
    config.replay.pool, config.fisher.samples = 512, 512  # only their use is timed, not their making
    device = find_device(config.device)
    methods = {name: _prepared(config, name, device) for name in ("replay", "trust_region")}
    windows = _windows(config, 2, device)
    times: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(ROUNDS + 2):
        for name, method in methods.items():
            start = time.perf_counter()
            for update in range(UPDATES):
                method.update(windows.sample(config.batch_size, random_stream(torch.device("cpu"), turn, update)))
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:  # warm
                times[name].append((time.perf_counter() - start) / UPDATES)
    ratios = [b / a for a, b in zip(times["replay"], times["trust_region"], strict=True)]
    result = {
        **{f"{name}_ms": round(1e3 * statistics.median(values), 2) for name, values in times.items()},
        "ratio": round(statistics.median(ratios), 3),
        "parameters": sum(p.numel() for p in methods["replay"].policy.network.parameters()),
        "past_tasks": 2,
        "torch": torch.__version__,
        "hardware": hardware() | {"device": device.type},
    }
    print(json.dumps(result))


def _prepared(config: DictConfig, name: str, device: torch.device) -> Method:
    """The method in its third task, after one update on each of the first two."""
    tasks = task_sequence("lift,can,square")
    torch.manual_seed(config.seed)
    normalizer = make_normalizer([(task.low, task.high) for task in tasks]).to(device)
    spec = make_spec(config, tasks)
    replay = GeneratedReplay(
        make_generator(config.replay, spec, normalizer), OptimizerSettings(), updates=1, batch_size=256, pool=256
    )
    config.method.name = name
    method = build_method(name, make_parts(config, make_policy(spec, normalizer), replay))
    for task in range(2):
        source = _windows(config, task, device)
        method.begin_task(task, 1)
        method.update(source.sample(config.batch_size, random_stream(torch.device("cpu"), task)))
        for _ in method.end_task(source, last=False):
            pass
    method.begin_task(2, (ROUNDS + 2) * UPDATES)
    return method


def _windows(config: DictConfig, task: int, device: torch.device) -> TaskWindows:
    rng = np.random.default_rng(task)
    row = task_sequence("lift,can,square")[task]
    observations = np.zeros((EPISODES * STEPS, 23), np.float32)
    observations[:, : row.observation_size] = rng.uniform(row.low, row.high, (EPISODES * STEPS, row.observation_size))
    actions = rng.uniform(-1, 1, (EPISODES * STEPS, row.action_size)).astype(np.float32)
    ends = np.arange(1, EPISODES + 1) * STEPS
    steps = config.observation_steps, config.action_steps
    return TaskWindows(Windows.from_episodes(observations, actions, ends, *steps, device), task)


if __name__ == "__main__":
    main()
