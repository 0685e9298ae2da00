"""Compare generated windows with real ones: nearest real windows, and marginals of entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # its parts load where they are first used
import torch
from jaxtyping import Float, Int
from torch import Tensor

from reconverge.datasets.windows import Windows
from reconverge.policy.model.batch import Batch
from reconverge.policy.model.generator import WindowGenerator

SHOWN = 4  # entries whose marginals are kept: those that differ most
BINS = 30  # of their histograms
QUANTILES = np.linspace(0.0, 1.0, 51)  # of the distances


def replay_quality(
    model: WindowGenerator,
    windows: Windows,
    task: int,
    names: Sequence[str],
    generator: torch.Generator,
    count: int = 2000,
) -> dict[str, Any] | None:
    """Plain numbers that compare `count` generated windows of `task` with its real ones; None for a
    single episode.

    `names` are those of the entries of the task's observation, then of the action. Distances are
    root mean squares over a window's entries, each in units of half its range among real windows.
    Real windows of every second episode are what is searched for neighbours, from generated windows
    and from real ones of the other episodes: within an episode, the next time step would be the
    neighbour.
    """
    episode = torch.unique(windows.first, return_inverse=True)[1]
    if not (episode % 2).any():
        return None
    searched, others = (
        _draw(windows, torch.nonzero(episode % 2 == parity)[:, 0], task, count, generator)
        for parity in (0, 1)
    )
    generated = model.generate(task, count, generator)
    To, Tp, Da = model.observation_shape[0], model.action_shape[0], model.action_size_of(task)
    entries = To * (len(names) - Da) + Tp * Da  # padding has no distance
    rows = [model.clean(batch)[:, 0] for batch in (searched, others, generated)]
    real, found = (_nearest(row, rows[0]) / entries**0.5 for row in rows[1:])
    return {
        "windows": count,
        "nearest": {
            "quantile": _rounded(QUANTILES),
            "real": _quantiles(real),
            "generated": _quantiles(found),
        },
        "ratio": float(f"{float(found.median() / real.median().clamp_min(1e-12)):.4g}"),
        "marginals": _marginals(model, others, generated, names, Da),
    }


def _draw(
    windows: Windows, steps: Int[Tensor, " N"], task: int, count: int, generator: torch.Generator
) -> Batch:
    index = torch.randint(len(steps), (count,), generator=generator, device=generator.device).to(
        steps.device
    )
    observations, actions = windows.gather(steps[index])
    return Batch(observations, actions, torch.full((count,), task, device=actions.device))


def _nearest(rows: Float[Tensor, "N W"], searched: Float[Tensor, "M W"]) -> Float[Tensor, " N"]:
    return torch.cdist(rows, searched).amin(dim=1)


def _marginals(
    model: WindowGenerator, real: Batch, generated: Batch, names: Sequence[str], action_size: int
) -> list[dict[str, Any]]:
    """Histograms, in own units, of the last observation's and the first action's entries that
    differ most.

    `distance` is the earth mover's, in units of half the entry's range among real windows.
    """
    size = len(names) - action_size

    def values(batch: Batch, normalized: bool) -> np.ndarray:
        seen = (
            model.normalizer.normalize(batch.observations, batch.task)
            if normalized
            else batch.observations
        )
        shown = [seen[:, -1, :size], batch.actions[:, 0, :action_size]]
        return torch.cat(shown, dim=1).cpu().numpy()

    pairs = zip(values(generated, True).T, values(real, True).T, strict=True)
    distances = np.array([scipy.stats.wasserstein_distance(*pair) for pair in pairs])
    made, true = values(generated, False), values(real, False)
    found = []
    for i in np.argsort(-distances)[:SHOWN]:
        edges = np.histogram_bin_edges(np.concatenate([made[:, i], true[:, i]]), BINS)
        shares = [
            _rounded(np.histogram(column, edges)[0] / len(column))
            for column in (true[:, i], made[:, i])
        ]
        entry = {
            "name": names[i],
            "distance": float(f"{distances[i]:.4g}"),
            "edges": _rounded(edges),
        }
        found.append(entry | {"real": shares[0], "generated": shares[1]})
    return found


def _quantiles(values: Float[Tensor, " N"]) -> list[float]:
    return _rounded(np.quantile(values.cpu().numpy(), QUANTILES))


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
