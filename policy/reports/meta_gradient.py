"""The steps of a finished run against MAML's meta-gradient, at every checkpoint and earlier task.

`policy.reports.alignment` has the mathematics; here the run's policies, windows and replay are
put into it.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.denoising import (
    Denoiser,
    NoisySample,
    corrupt,
    half_squared_errors,
    imagined,
    random_stream,
    taught_by,
)
from reconverge.policy.continual.fisher import DiagonalFisher, LowRank, Rank1
from reconverge.policy.continual.kfac import Kfac
from reconverge.policy.continual.parameter_vector import concatenate, split
from reconverge.policy.continual.quadratic import QuadraticForm
from reconverge.policy.continual.region import AROUND_THE_POLICY_BEFORE
from reconverge.policy.reports.alignment import Loss, OldTask, align, cosine, error, gradient
from reconverge.policy.reports.learned_run import LearnedRun, read_learned
from reconverge.policy.runs import checkpoint
from reconverge.progress import progress_bar

METRICS: dict[str, Any] = {
    "rank1": Rank1(),
    "diagonal": DiagonalFisher(),
    "low_rank": LowRank(),
    "kfac": Kfac(),
    "ekfac": Kfac(corrected=True),
}
"""What the Gauss-Newton matrix is compared with; each takes the targets that it is made for."""

MOST_RATE, MOST_WINDOWS = 1000, 1_000_000

Pair = dict[str, Any]
"""`after` and `task` (labels), `since` (tasks learned in between), and what `align` returns"""


def measure_run(run: Path, inner_rate: float, windows: int) -> tuple[dict[str, Any], list[Pair]]:
    """Return facts about the run in a folder, and one entry a checkpoint and earlier task.

    `windows` of each earlier task are drawn for the support set, the query set and the replay.
    """
    if not 0 < inner_rate < MOST_RATE or not 0 < windows <= MOST_WINDOWS:
        raise ReconvergeError(
            f"inner_rate={inner_rate}, windows={windows}: the rate must be above 0 and below "
            f"{MOST_RATE}, the windows 1 to {MOST_WINDOWS}"
        )
    learned = read_learned(run)
    most = getattr(learned.policies[0].network, "fisher_batch", MOST_WINDOWS)
    if windows > most:
        raise ReconvergeError(
            f"windows={windows}: this run's network takes {most} at a time, for want of memory; "
            f"add --windows {most}"
        )
    names, found = learned.names, learned.folders
    pairs: list[Pair] = []
    with progress_bar(run.name, "pair", len(found) * (len(found) - 1) // 2) as bar:
        for k in range(1, len(found)):
            learned.replay.load_state_dict(_part(checkpoint.load(found[k]).state, "replay/"))
            for i in range(k):
                values = _compare(learned, k, i, inner_rate, windows)
                pairs.append({"after": names[k], "task": names[i], "since": k - i, **values})
                bar.update()
    options = learned.options
    strength = getattr(options.method, "strength", 0.0)
    facts = {
        "run": run.resolve().name,
        "method": options.method.name,
        "seed": options.seed,
        "names": names,
    }
    return facts | {"inner_rate": inner_rate, "windows": windows, "strength": strength}, pairs


def _compare(
    learned: LearnedRun, k: int, i: int, inner_rate: float, count: int
) -> dict[str, float | None]:
    """See task `i` as the policy after task `k` does, with the replay and teacher that it had.

    Losses are half the summed squared errors of a chunk, as in the Fisher; the strength, the one
    at the start of a task where it falls, is scaled to match.
    """
    stream = random_stream(torch.device("cpu"), learned.options.seed, k, i)
    policy, teacher = learned.policies[k], learned.policies[k - 1]
    real = learned.windows[i]()
    support, query = (corrupt(policy, real.sample(count, stream), stream) for _ in range(2))
    drawn = learned.replay.draw(teacher, i, count, stream)
    batch = drawn if isinstance(drawn, Sized) else drawn.sample(count, stream)
    replayed = taught_by(teacher, corrupt(policy, batch, stream), count)
    samples = {"support": support, "query": query, "replay": replayed}
    losses = {name: _loss(policy, sample) for name, sample in samples.items()}
    fisher, optimum = learned.options.fisher, _vector(learned.policies[i])
    around = learned.region.centre if learned.region is not None else ""
    centre = _vector(teacher if around in AROUND_THE_POLICY_BEFORE else learned.policies[i])
    place, sample = learned.policies[i], _answered(fisher, learned.policies[i], query, stream)
    product = fisher_product(policy, optimum, sample)
    if around == "replayed":  # the run takes its metric at the policy before the task, of replay
        place, sample = teacher, _answered(fisher, teacher, corrupt(teacher, batch, stream), stream)
    form = penalty_form(fisher, place, sample, centre)
    task = OldTask(
        **losses, optimum=optimum, fisher=product, penalty=lambda v: 0.5 * form.gradient(v)
    )
    entries = int(query.mask[0].sum()) * query.noisy.shape[1]
    aligned = align(task, _vector(policy), inner_rate, _strength(learned, k, form, entries))
    move = _vector(policy) - optimum
    return aligned | _metrics(learned.policies[i], move, support, query, stream)


def _metrics(
    policy: Denoiser,
    move: Tensor,
    seen: NoisySample,
    unseen: NoisySample,
    stream: torch.Generator,
) -> dict[str, float | None]:
    """Return error and cosine of F~ move for every metric F~, against the Gauss-Newton product.

    F~ is estimated from `seen` at the policy's parameters, the product taken of `unseen`.
    """
    optimum = _vector(policy)
    exact, found = gauss_newton_product(policy, unseen)(move), {}
    for name, fisher in METRICS.items():
        sample = _answered(fisher, policy, seen, stream)
        product = 0.5 * penalty_form(fisher, policy, sample, optimum).gradient(optimum + move)
        found[f"error_{name}"] = error(product, exact)
        found[f"cosine_{name}"] = cosine(product, exact)
    return found


def _strength(learned: LearnedRun, tasks: int, form: QuadraticForm, entries: int) -> float:
    """Return the penalty's weight beside half the sum over a chunk's `entries`, after `tasks`."""
    region, options = learned.region, learned.options
    if region is None:
        return 0.0
    strength = region.strength
    if region.share is not None:
        way = options.optimizer.way(options.updates_per_task)
        strength = region.strength_of(form, way, tasks)
    each = strength / region.shared_by(tasks)
    return 0.5 * entries * each / options.method.distillation_weight


def _answered(
    fisher: Any, policy: Denoiser, sample: NoisySample, stream: torch.Generator
) -> NoisySample:
    """Return the sample with the targets that a metric is estimated with."""
    return imagined(policy, sample, stream) if fisher.targets == "policy" else sample


def _loss(policy: Denoiser, sample: NoisySample) -> Loss:
    """Return the mean loss of a sample as a function of the parameters' vector."""
    each, like = half_squared_errors(policy), dict(policy.network.named_parameters())
    return lambda theta: each(split(theta, like), sample.tensors).mean()


def fisher_product(
    policy: Denoiser, optimum: Tensor, sample: NoisySample
) -> Callable[[Tensor], Tensor]:
    """Return v -> E[g (g^T v)] at the optimum: slopes of all losses along v, weighted gradient."""
    each, like = half_squared_errors(policy), dict(policy.network.named_parameters())

    def product(v: Tensor) -> Tensor:
        def losses(theta: Tensor) -> Tensor:
            return each(split(theta, like), sample.tensors)

        slopes = torch.func.jvp(losses, (optimum,), (v,))[1].detach()
        return gradient(lambda theta: losses(theta) @ slopes / len(slopes), optimum)

    return product


def gauss_newton_product(policy: Denoiser, sample: NoisySample) -> Callable[[Tensor], Tensor]:
    """Return v -> E[J^T J v], J the Jacobian of the network's answer at the policy's parameters."""
    like = dict(policy.network.named_parameters())
    inputs, optimum = (sample.noisy, sample.k, sample.condition), _vector(policy)

    def answers(theta: Tensor) -> Tensor:
        output = torch.func.functional_call(policy.network, split(theta, like), inputs)
        return sample.mask * output

    def product(v: Tensor) -> Tensor:
        slopes = torch.func.jvp(answers, (optimum,), (v,))[1].detach()
        return gradient(lambda theta: (answers(theta) * slopes).sum() / len(slopes), optimum)

    return product


def penalty_form(
    fisher: Any, policy: Denoiser, sample: NoisySample, centre: Tensor
) -> QuadraticForm:
    """Return the form of F around `centre`, F estimated by `fisher` at the policy's parameters."""
    form, parameters = fisher.form(), dict(policy.network.named_parameters())
    form.add(fisher.estimate(half_squared_errors(policy), parameters, [sample.tensors]))
    form.recentre(centre)
    return form


def _vector(policy: Denoiser) -> Tensor:
    return concatenate(dict(policy.network.named_parameters()))


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {name: value for name, value in state.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): value for name, value in found.items()}
