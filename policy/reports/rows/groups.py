"""Runs that differ in their seed only, by the name of their method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from reconverge.errors import ReconvergeError, unknown
from reconverge.policy.runs.summary import Summary

Groups = dict[str, list[Summary]]
"""By name, the runs of a method in the order of their seeds."""

SETTING = ("tasks", "updates_per_task", "n_rollouts", "evaluation_seeds", "network")
METHOD = ("method", "fisher", "replay")
"""Groups of options that make one method; the others must be equal."""
ALL_AT_ONCE = ("multitask",)
"""Methods that learn all tasks from the first update on."""
WORDS = {
    "er": "ER",
    "agem": "A-GEM",
    "l2": "L2",
    "mas": "MAS",
    "packnet": "PackNet",
    "ewc": "EWC",
    "online_ewc": "online EWC",
    "ftml": "FTML",
    "vr_mcl": "VR-MCL",
    "rank1": "rank-1",
    "kfac": "K-FAC",
    "low_rank": "low-rank",
    "centre before_task": "centred before the task",
    "centre each_optimum": "centred on each optimum",
    "centre newest_optimum": "centred on the newest optimum",
    "centre each_optimum_shared": "centred on each optimum with a shared strength",
}
"""Names and options whose words are not simply their own."""


def group(summaries: Sequence[Summary]) -> Groups:
    """Group runs by method; ReconvergeError where they cannot be compared."""
    for name in SETTING:
        _refuse_difference(name, [getattr(summary, name) for summary in summaries])
    for name in sorted({name for s in summaries for name in s.options} - {*METHOD, "boundaries"}):
        _refuse_difference(name, [summary.options.get(name) for summary in summaries])
    groups: Groups = {}
    for summary in summaries:
        groups.setdefault(_name(summary, summaries), []).append(summary)
    for name, runs in groups.items():
        seeds = sorted(run.seed for run in runs)
        if len(set(seeds)) < len(seeds):
            raise ReconvergeError(f"{name}: two runs have one seed ({seeds}); leave one out")
        runs.sort(key=lambda run: run.seed)
    return groups


def find_reference(groups: Groups, name: str | None = None) -> str:
    """Choose the group that the others are paired with: `name`, else replay, else the first."""
    if name is None:
        return next((name for name in groups if name.startswith("replay")), next(iter(groups)))
    if name not in groups:
        raise unknown("reference", name, groups)
    return name


def at_once(summary: Summary) -> bool:
    """Say whether a run learned all tasks at once: it has forgotten none and come back to none."""
    return summary.method in ALL_AT_ONCE


def words(name: str) -> str:
    return WORDS.get(name, name.replace("_", " "))


def _refuse_difference(name: str, values: Sequence[Any]) -> None:
    found = sorted({json.dumps(value, sort_keys=True) for value in values})
    if len(found) > 1:
        raise ReconvergeError(
            f"runs differ in {name}: {' and '.join(found)}; compare runs of one setting"
        )


def _name(summary: Summary, summaries: Sequence[Summary]) -> str:
    """Name the method, its Fisher, its replay where that tells methods apart, and the options in
    which runs of these three differ.
    """
    parts = [words(summary.method)]
    if summary.fisher != "none":
        parts.append(f"{words(summary.fisher)} Fisher")
    sources = {
        s.replay
        for s in summaries
        if s.method == summary.method or "none" not in (s.replay, summary.replay)
    }
    if len(sources) > 1:
        source = words(summary.replay)
        parts.append("no replay" if summary.replay == "none" else f"replay from {source}")
    if summary.options.get("boundaries", "told") != "told":
        parts.append(f"boundaries {summary.options['boundaries']}")
    alike = [s for s in summaries if all(getattr(s, n) == getattr(summary, n) for n in METHOD)]
    for part in METHOD:
        for option, value in _options(summary, part).items():
            if any(_options(s, part).get(option) != value for s in alike):
                text = value if isinstance(value, str) else json.dumps(value)
                parts.append(words(f"{option} {text}"))
    return ", ".join(parts)


def _options(summary: Summary, part: str) -> dict[str, Any]:
    """Options of a part of the method; none of a Fisher or a replay that the run does not have."""
    return {} if getattr(summary, part) == "none" else summary.options.get(part, {})
