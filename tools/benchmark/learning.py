"""How fast a policy learns: success of one policy a task after few updates, and the processor seconds they took.

python -m tools.benchmark.learning env=push-back,stick-pull updates_per_task=200 [option=value ...]
(options of configs/train.yaml; `-m batch_size=64,128,256` for a row each)

Episodes are those of evaluation.seeds=selection, whatever the configuration says: settings are chosen by this.
"""

from __future__ import annotations

import json
import time
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from configs import commandline
from envs.evaluator import Evaluator
from envs.seeds import SELECTION
from policy.agent import PolicyActor
from policy.assembly import make_parts, make_spec, make_windows
from policy.loading import make_normalizer, make_policy
from policy.methods import build_method
from policy.methods.base import random_stream
from policy.metrics import wilson
from policy.options import check
from policy.record import commit, hardware
from policy.train import demonstrations
from tools.playback import input_frames


def main() -> None:
    commandline.run("train", lambda config: print(json.dumps(measure(config)), flush=True), "hydra.run.dir=.")


def measure(config: DictConfig) -> dict[str, Any]:
    """Train each task alone, from the same weights, and evaluate it; what there is to tell of it."""
    tasks = check(config)
    stores, cpu = [demonstrations(config, task) for task in tasks], torch.device("cpu")
    spec = make_spec(config, tasks, input_frames(tasks, stores))
    evaluator = Evaluator(tasks, config.evaluation.slots, config.workers, spec.input_frames)
    successes: dict[str, list[bool]] = {}
    spent = 0.0
    for i, task in enumerate(tasks):
        torch.manual_seed(config.seed)
        policy = make_policy(spec, make_normalizer([(row.low, row.high) for row in tasks]))
        method = build_method("finetune", make_parts(config, policy, None))
        windows = make_windows(config, spec, stores[i], i, cpu)()
        start = time.process_time()
        method.begin_task(0, config.updates_per_task)
        for update in range(config.updates_per_task):
            method.update(windows.sample(config.batch_size, random_stream(cpu, config.seed, i, update)))
        spent += time.process_time() - start
        seeds = SELECTION[: config.evaluation.n_rollouts]
        results = evaluator.rollouts(PolicyActor(method.policy, i), i, seeds)
        successes[task.name] = [result.success for result in results]
    evaluator.close()
    pooled = [value for row in successes.values() for value in row]
    updates = config.updates_per_task * len(tasks)
    return {
        "options": list(HydraConfig.get().overrides.task),
        "success": round(sum(pooled) / len(pooled), 4),
        "ci95": [round(end, 4) for end in wilson(sum(pooled), len(pooled))],
        "tasks": {name: sum(row) / len(row) for name, row in successes.items()},
        "cpu_seconds_per_task": round(spent / len(tasks), 2),
        "cpu_ms_per_update": round(1e3 * spent / updates, 2),
        "parameters": sum(p.numel() for p in policy.network.parameters()),
        "commit": commit(),
        "hardware": hardware(),
    }


if __name__ == "__main__":
    main()
