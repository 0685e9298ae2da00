"""Does the trust region step along MAML's meta-gradient? `python -m tools.meta_alignment runs/<name>`.

At every checkpoint of a finished task, for every task before it: cosines of the steps of replay and of the trust
region with the exact meta-gradient, and the error of each approximation in between (policy.alignment).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from configs import commandline
from datasets.store import DemonstrationStore
from envs.evaluator import Evaluator
from envs.tasks import task_sequence
from policy import checkpoint
from policy.agent import DiffusionPolicy
from policy.alignment import Loss, OldTask, align, gradient
from policy.assembly import make_replay, make_spec, make_windows
from policy.files import write_json
from policy.fisher import Fisher
from policy.flat import concatenate, split
from policy.loading import load_policy
from policy.methods.base import half_squared_errors, imagined, noisy_sample, random_stream
from policy.options import REPLAYING, make_fisher
from policy.plots import plot_alignment
from policy.record import commit, hardware
from policy.replay import ReplaySource
from policy.training import TaskWindows
from tools.playback import input_frames

Row = dict[str, Any]
Sample = tuple[Tensor, ...]  # noisy chunks, diffusion steps, conditions, targets


def main() -> None:
    """Exit code 2 and one line for a run that cannot be measured."""
    arguments = _arguments()
    try:
        measure(Path(arguments.run), arguments.inner_rate, arguments.windows)
    except (ValueError, OSError) as error:
        commandline.report(error)
        raise SystemExit(commandline.ERROR) from None


def measure(run: Path, inner_rate: float, windows: int) -> list[Row]:
    """Write `meta_alignment.json` and `plots/meta_alignment.png` into the run's folder; one row a checkpoint and task.

    `windows` of each earlier task are drawn for the support set, the query set and the replay.
    """
    if not inner_rate > 0 or windows < 1:
        raise ValueError(f"inner_rate={inner_rate}, windows={windows}: give a positive rate and at least 1 window")
    config = commandline.load_yaml(run / "config.yaml")
    method = config.method
    if config.replay.source == "none" or method.name not in REPLAYING or not method.get("distillation_weight", 1.0):
        raise ValueError(f"{run}: method={method.name} replay={config.replay.source} rehearses no earlier task")
    names = [task.label for task in task_sequence(list(config.env))]
    folders = [run / "checkpoints" / f"{k}_{name}" for k, name in enumerate(names)]
    found = [folder for folder in folders if folder.exists()]
    if len(found) < 2:
        raise ValueError(f"{run}: {len(found)} tasks have been learned; at least 2 are needed")
    learned = read(config, [load_policy(folder)[0] for folder in found])
    rows: list[Row] = []
    with tqdm(total=len(found) * (len(found) - 1) // 2, unit="pair") as bar:
        for k in range(1, len(found)):
            learned.replay.load_state_dict(_part(checkpoint.load(found[k - 1]).state, "replay/"))
            for i in range(k):
                values = compare(learned, k, i, inner_rate, windows)
                rows.append({"after": names[k], "task": names[i], "since": k - i, **values})
                bar.update()
    settings = {"inner_rate": inner_rate, "windows": windows, "strength": method.get("strength", 0.0)}
    facts = {"run": run.name, "method": method.name, "seed": config.seed, **settings}
    write_json(run / "meta_alignment.json", {**facts, "commit": commit(), "hardware": hardware(), "pairs": rows})
    plot_alignment(run / "plots" / "meta_alignment.png", rows, names)
    print(f"{run}/meta_alignment.json, {run}/plots/meta_alignment.png")
    return rows


@dataclass(frozen=True)
class Learned:
    """A run: the policies after each of its tasks, the tasks' windows and their replay."""

    config: DictConfig
    policies: list[DiffusionPolicy]
    windows: list[Callable[[], TaskWindows]]
    replay: ReplaySource


def read(config: DictConfig, policies: list[DiffusionPolicy]) -> Learned:
    """Windows from the run's demonstrations; replay as it is before anything was learned."""
    tasks, folder = task_sequence(list(config.env)), Path(config.demonstrations.path)
    stores = [DemonstrationStore.open(folder / f"{task.name}.zarr") for task in tasks]
    spec = make_spec(config, tasks, input_frames(tasks, stores))
    windows = [make_windows(config, spec, store, i, torch.device("cpu")) for i, store in enumerate(stores)]
    evaluator = Evaluator(tasks, config.evaluation.slots, config.workers, spec.input_frames)
    replay = make_replay(config, spec, policies[0].normalizer, windows, evaluator)
    assert replay is not None
    return Learned(config, policies, windows, replay)


def compare(learned: Learned, k: int, i: int, inner_rate: float, count: int) -> dict[str, float | None]:
    """Task `i` as the policy after task `k` sees it, with the replay and the teacher from which `k` was learned.

    Losses are half the summed squared errors of a chunk, as in the Fisher; the strength, where it is annealed the one
    at the start of a task, is scaled to match.
    """
    method, stream = learned.config.method, random_stream(torch.device("cpu"), learned.config.seed, k, i)
    policy, teacher = learned.policies[k], learned.policies[k - 1]
    real = learned.windows[i]()
    support, query = (noisy_sample(policy, real.sample(count, stream), stream) for _ in range(2))
    noisy, steps, condition, _ = noisy_sample(policy, learned.replay.windows(teacher, i, count, stream), stream)
    with torch.no_grad():
        taught = teacher.network(noisy, steps, condition)
    samples = {"support": support, "query": query, "replay": (noisy, steps, condition, taught)}
    losses = {name: _loss(policy, sample) for name, sample in samples.items()}
    optimum, sample = _vector(learned.policies[i]), query
    if learned.config.fisher.get("targets") == "policy":
        sample = imagined(learned.policies[i], query, stream)
    centre = learned.policies[k - 1 if method.get("recentre", False) else i]
    anchor = _fisher(make_fisher(learned.config), learned.policies[i], sample, _vector(centre))
    task = OldTask(**losses, optimum=optimum, fisher=_product(policy, optimum, sample), penalty=anchor)
    entries = policy.action_steps * policy.action_size
    strength = 0.5 * entries * method.get("strength", 0.0) / method.get("distillation_weight", 1.0)
    if method.get("average", False):
        strength /= k
    return align(task, _vector(policy), inner_rate, strength)


def _loss(policy: DiffusionPolicy, sample: Sample) -> Loss:
    """Mean loss of a sample as a function of the parameters' vector."""
    each, like = half_squared_errors(policy), dict(policy.network.named_parameters())
    return lambda theta: each(split(theta, like), sample).mean()


def _product(policy: DiffusionPolicy, optimum: Tensor, sample: Sample) -> Callable[[Tensor], Tensor]:
    """v -> E[g (g^T v)] at the optimum: the slopes of all losses along v, and their weighted gradient."""
    each, like = half_squared_errors(policy), dict(policy.network.named_parameters())

    def product(v: Tensor) -> Tensor:
        def losses(theta: Tensor) -> Tensor:
            return each(split(theta, like), sample)

        slopes = torch.func.jvp(losses, (optimum,), (v,))[1].detach()
        return gradient(lambda theta: losses(theta) @ slopes / len(slopes), optimum)

    return product


def _fisher(fisher: Fisher, policy: DiffusionPolicy, sample: Sample, centre: Tensor) -> Callable[[Tensor], Tensor]:
    """theta -> F (theta - centre), F as the run's `fisher=` estimates it at the policy's own parameters."""
    form = fisher.form()
    form.add(fisher.estimate(half_squared_errors(policy), dict(policy.network.named_parameters()), [sample]))
    form.recentre(centre)
    return lambda theta: 0.5 * form.gradient(theta)


def _vector(policy: DiffusionPolicy) -> Tensor:
    return concatenate(dict(policy.network.named_parameters()))


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.meta_alignment", description=__doc__)
    parser.add_argument("run", help="folder of a run that rehearses earlier tasks")
    parser.add_argument("--inner-rate", type=float, default=1e-4, help="of MAML's inner step (%(default)s)")
    parser.add_argument("--windows", type=int, default=2048, help="of each set of an earlier task (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
