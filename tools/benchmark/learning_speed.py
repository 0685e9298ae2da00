"""How fast a policy learns: success after few updates, and the processor seconds they took.

python -m tools.benchmark.learning_speed env=push-back updates_per_task=200 [option=value ...]
(options of policy.train; `-m batch_size=64,128,256` for a row each; on the processor)

Episodes are those of evaluation.seeds=selection, whatever the options say: settings are chosen by
this.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig

from reconverge.configs import commandline
from reconverge.envs.evaluator import Evaluator
from reconverge.envs.seeds import SELECTION
from reconverge.policy.continual.denoising import random_stream
from reconverge.policy.continual.methods.finetune import FinetuneOptions
from reconverge.policy.demonstrations.fit import in_frames_of
from reconverge.policy.demonstrations.supply import complete, find_stores, require_all
from reconverge.policy.model.actor import PolicyActor
from reconverge.policy.runs.build import make_method, make_spec, make_windows
from reconverge.policy.runs.configuration import TRAIN, TrainOptions, check_train_options
from reconverge.policy.runs.loading import make_normalizer, make_policy
from reconverge.policy.runs.metrics import wilson
from reconverge.tools.benchmark.origin import origin, publish


def main() -> None:
    usage = "python -m tools.benchmark.learning_speed env=push-back updates_per_task=200"
    commandline.run(replace(TRAIN, usage=usage), run, "hydra.run.dir=.")


def run(options: TrainOptions) -> None:
    """Print one JSON line about the options typed."""
    typed = list(HydraConfig.get().overrides.task)
    publish({"options": typed, **measure(options), **origin(["torch"], "cpu")})


def measure(options: TrainOptions) -> dict[str, Any]:
    """Train each task alone, from the same weights, and evaluate it."""
    options, wanted = replace(options, method=FinetuneOptions()), options.demonstrations
    tasks, cpu = check_train_options(options), torch.device("cpu")
    folder = Path(wanted.path)
    existing = find_stores(tasks, folder)
    if not wanted.collect:
        require_all(tasks, existing, folder)
    stores = complete(
        tasks,
        existing,
        folder,
        episodes=wanted.episodes,
        noise=wanted.noise,
        workers=options.workers,
    )
    tasks = in_frames_of(tasks, stores)
    spec = make_spec(options, tasks)
    evaluator = Evaluator(tasks, options.evaluation.slots, options.workers)
    successes: dict[str, list[bool]] = {}
    spent = 0.0
    for task, store in zip(tasks, stores, strict=True):
        torch.manual_seed(options.seed)
        policy = make_policy(spec, make_normalizer(spec, tasks))
        method = make_method(options, spec, policy, None, None)
        episodes = options.demonstrations.episodes
        windows = make_windows(options, spec, store, task, cpu, episodes)()
        start = time.process_time()
        method.begin_task(0, options.updates_per_task)
        for update in range(options.updates_per_task):
            stream = random_stream(cpu, options.seed, task.index, update)
            method.update(windows.sample(options.batch_size, stream))
        spent += time.process_time() - start
        seeds = SELECTION[: options.evaluation.n_rollouts]
        actor = PolicyActor(method.model, task.index)
        results = evaluator.rollouts(actor, task.index, seeds)
        successes[task.name] = [result.success for result in results]
    evaluator.close()
    pooled = [value for row in successes.values() for value in row]
    updates = options.updates_per_task * len(tasks)
    return {
        "success": round(sum(pooled) / len(pooled), 4),
        "ci95": [round(end, 4) for end in wilson(sum(pooled), len(pooled))],
        "tasks": {name: sum(row) / len(row) for name, row in successes.items()},
        "cpu_seconds_per_task": round(spent / len(tasks), 2),
        "cpu_ms_per_update": round(1e3 * spent / updates, 2),
        "parameters": sum(p.numel() for p in policy.network.parameters()),
    }


if __name__ == "__main__":
    main()
