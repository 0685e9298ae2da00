"""The chart of tools.meta_alignment: the steps of the argument, as measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from reconverge.policy.reports.charts.style import COLORS, INK, Chart, label_powers

PANELS: dict[str, dict[str, str]] = {
    "cosine with the meta-gradient": {
        "cosine_replay": "replay",
        "cosine_trust_region": "replay and penalty",
        "cosine_best": "replay and penalty of the best strength",
        "cosine_penalty": "penalty",
    },
    "cosine of the two sides of a step": {
        "cosine_replay_query": "replay and the task's own gradient",
        "cosine_linear_gradient": "Hessian · move and the gradient",
        "cosine_fisher_hessian": "Fisher · move and Hessian · move",
        "cosine_estimate_fisher": "estimate · move and Fisher · move",
        "cosine_penalty_correction": "penalty and correction by MAML",
    },
    "relative error of a step": {
        "error_replay_is_query": "replay for the task's own gradient",
        "error_gradient_is_linear": "Hessian · move for the gradient",
        "error_hessian_is_fisher": "Fisher for the Hessian",
        "error_fisher_is_estimate": "the estimate for the Fisher",
        "error_first_order": "first order for the correction by MAML",
    },
    "cosine of a metric's product with Gauss-Newton's": {
        "cosine_rank1": "rank 1",
        "cosine_diagonal": "diagonal",
        "cosine_low_rank": "low rank",
        "cosine_kfac": "K-FAC",
        "cosine_ekfac": "K-FAC, corrected",
    },
    "relative error of a metric's product": {
        "error_rank1": "rank 1",
        "error_diagonal": "diagonal",
        "error_low_rank": "low rank",
        "error_kfac": "K-FAC",
        "error_ekfac": "K-FAC, corrected",
    },
}
"""By panel: keys of a pair of `policy.reports.meta_gradient`, with what they are. A move is from
the optimum of the earlier task to the policy.
"""


def alignment(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Chart:
    """A panel a quantity: marks are earlier tasks, bars their medians, after every task learned."""

    def draw(figure: Figure, narrow: bool) -> None:
        figure.set_size_inches(max(9.0, 3.5 + 0.8 * len(names)), 2.8 * len(PANELS))
        panels = figure.subplots(len(PANELS), 1, sharex=True)
        for axes, (title, quantities) in zip(panels, PANELS.items(), strict=True):
            width = 0.8 / len(quantities)
            for i, (key, label) in enumerate(quantities.items()):
                axes.plot([], [], "o", color=COLORS[i], markersize=4, label=label)
                for x, after in enumerate(names[1:]):
                    values = [r[key] for r in rows if r["after"] == after and r[key] is not None]
                    center = x + (i + 0.5) * width - 0.4
                    style = {"color": COLORS[i], "alpha": 0.4, "markersize": 3}
                    axes.plot([center] * len(values), values, "o", **style)
                    if values:
                        ends = (center - 0.42 * width, center + 0.42 * width)
                        axes.hlines(np.median(values), *ends, color=COLORS[i], linewidth=2)
            for transition in range(1, len(names) - 1):
                axes.axvline(transition - 0.5, color=INK, alpha=0.15, linewidth=0.8)
            axes.set_title(title, fontweight="bold")
            axes.grid(visible=False, axis="x")
            axes.tick_params(axis="x", length=0)
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        for axes, title in zip(panels, PANELS, strict=True):
            if "error" in title:
                axes.set_yscale("log")
                label_powers(axes.yaxis)
                continue
            axes.axhline(0, color=INK, alpha=0.6, linewidth=0.8)
            axes.set_ylim(-1.05, 1.05)
        panels[-1].set_xticks(range(len(names) - 1), names[1:], rotation=30, ha="right")
        panels[-1].set_xlim(-0.5, len(names) - 1.5)
        panels[-1].set_xlabel("after learning")

    return Chart("alignment", "Cosines with the meta-gradient, and each step's error.", draw)
