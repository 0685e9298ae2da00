"""Tables and a figure of several runs: `python -m tools.compare runs/*` (run folders or summary.json files)."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu

from configs import commandline
from policy.files import write_text
from policy.metrics import bootstrap
from policy.plots import plot_recovery
from policy.summary import updates_text

Summary = dict[str, Any]
Row = dict[str, str]

MEASURES: dict[str, Callable[[Summary], float | None]] = {
    "average_success": lambda s: s["average_success"],
    "just_learned_all": lambda s: s["forgetting"]["just_learned_all"],
    "just_learned_without_last": lambda s: s["forgetting"]["just_learned_without_last"],
    "max_without_last": lambda s: s["forgetting"]["max_without_last"],
    "backward_transfer": lambda s: s["backward_transfer"],
}
"""Fractions by their names in summary.json; the tables give points of a hundred."""

SETTING = ("tasks", "updates_per_task", "n_rollouts", "evaluation_seeds", "network")
REQUIRED = (
    "method", "seed", "average_success", "forgetting", "backward_transfer", "recovery", "seconds", *SETTING[:3]
)  # fmt: skip
METHOD = ("method", "fisher", "replay")  # groups of options that make one method; the others must be equal
ADDED: dict[str, dict[str, Any]] = {
    "optimizer": {"precision": "float32", "keep_moments": False},
    "method": {"average": False, "recentre": False, "anneal": False},
    "fisher": {"targets": "demonstrations"},
}
"""Options that older summaries lack, as they were then."""
TARGETS = (0.99, 0.9, 0.8)
HEADINGS = {
    "success": "Means over seeds with 95 % bootstrap intervals, in points of a hundred",
    "paired": "Differences to {reference} on the same seeds, average success in points",
    "recovery": "Updates until a task was back at a share of its success just after learning "
    "(one number a seed; 0: never found below, > n: not within n)",
    "first_reached": "The simpler definition: updates until the first probe at that share, whatever came before or "
    "after (?: not recorded)",
}


def main() -> None:
    """Exit code 2 and one line for input that cannot be compared."""
    arguments = _arguments()
    try:
        compare([Path(run) for run in arguments.runs], Path(arguments.output), arguments.reference)
    except (ValueError, OSError) as error:
        commandline.report(error)
        raise SystemExit(commandline.ERROR) from None


def compare(paths: Sequence[Path], output: Path, reference: str | None = None) -> None:
    """Read the runs, write `comparison.md`, its tables as CSV and `recovery.png` into `output`, print the tables.

    There is no figure where nothing was probed.
    """
    groups = group([read(path) for path in paths])
    reference = find_reference(groups, reference)
    first = next(iter(groups.values()))[0]
    tables = {
        "success": success_table(groups),
        "paired": paired_table(groups, reference),
        "recovery": recovery_table(groups),
        "first_reached": recovery_table(groups, "first_reached"),
    }
    text = f"{len(paths)} runs of {', '.join(first['tasks'])}; {first['n_rollouts']} rollouts a task.\n"
    for name, rows in tables.items():
        if rows:
            text += f"\n## {HEADINGS[name].format(reference=reference)}\n\n{markdown(rows)}"
            write_text(output / f"{name}.csv", comma_separated(rows))
    write_text(output / "comparison.md", text)
    curves = recovery_curves(groups)
    if any(found for transitions in curves.values() for _, found in transitions):
        plot_recovery(output / "recovery.png", curves, first["updates_per_task"])
    print(text)
    print(f"everything is in {output}")


def find_reference(groups: dict[str, list[Summary]], name: str | None = None) -> str:
    """The group that the others are paired with; ValueError for a name that is none of theirs."""
    names = list(groups)
    name = name or next((name for name in names if name.startswith("replay")), names[0])
    if name not in groups:
        raise ValueError(f"reference={name}: none of the runs; choose from {', '.join(names)}")
    return name


def read(path: Path) -> Summary:
    """The summary of a run; ValueError where there is none or it is of an unfinished run."""
    file = path / "summary.json" if path.is_dir() else path
    if not file.exists():
        raise ValueError(f"{path}: no summary.json; give folders of finished runs, or summary.json files")
    try:
        summary = json.loads(file.read_text())
        missing = [name for name in REQUIRED if name not in summary]
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"{file}: not a summary.json ({error})") from error
    if missing:
        raise ValueError(f"{file}: has no {missing[0]!r}; give the summary.json of a run")
    if summary["average_success"] is None:
        raise ValueError(f"{file}: of an unfinished run; go on with python -m policy.train resume={file.parent}")
    return summary


def group(summaries: Sequence[Summary]) -> dict[str, list[Summary]]:
    """Runs that differ in their seed only, by name; ValueError where runs cannot be compared."""
    summaries = [_completed(summary) for summary in summaries]
    for name in SETTING:
        values = {json.dumps(s.get(name)) for s in summaries}
        if len(values) > 1:
            raise ValueError(f"runs differ in {name}: {' and '.join(sorted(values))}; compare runs of one setting")
    for name in {name for s in summaries for name in s.get("options", {})} - set(METHOD):
        values = {json.dumps(s["options"].get(name), sort_keys=True) for s in summaries if "options" in s}
        if len(values) > 1:
            raise ValueError(f"runs differ in {name}: {' and '.join(sorted(values))}; compare runs of one setting")
    groups: dict[str, list[Summary]] = {}
    for summary in summaries:
        groups.setdefault(_name(summary, summaries), []).append(summary)
    for name, runs in groups.items():
        seeds = [run["seed"] for run in runs]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{name}: two runs have one seed ({sorted(seeds)}); leave one out")
        runs.sort(key=lambda run: run["seed"])
    return groups


def _completed(summary: Summary) -> Summary:
    """With the options that it lacks, and without those of a Fisher or a replay that the run does not have."""
    unused = [part for part in ("fisher", "replay") if summary.get(part, "none") == "none"]
    options = {part: value for part, value in summary.get("options", {}).items() if part not in unused}
    for part in ADDED.keys() & options.keys():
        options[part] = ADDED[part] | options[part]
    return summary | {"options": options} if "options" in summary else summary


def _name(summary: Summary, summaries: Sequence[Summary]) -> str:
    """Method, replay and Fisher, and the options in which runs of these three differ."""
    parts = [summary[part] for part in ("method", "replay", "fisher") if summary.get(part, "none") != "none"]
    alike = [s for s in summaries if all(s.get(part) == summary.get(part) for part in METHOD)]
    for part in METHOD:
        for option, value in summary.get("options", {}).get(part, {}).items():
            if any(s.get("options", {}).get(part, {}).get(option) != value for s in alike):
                parts.append(f"{part}.{option}={json.dumps(value)}")
    return " ".join(parts)


def success_table(groups: dict[str, list[Summary]]) -> list[Row]:
    """One row a group: every measure's mean and interval, minutes."""
    rows = []
    for name, runs in groups.items():
        row = {"method": name, "seeds": str(len(runs))}
        row |= {measure: interval([get(run) for run in runs]) for measure, get in MEASURES.items()}
        rows.append(row | {"minutes": f"{np.mean([run['seconds']['total'] for run in runs]) / 60:.1f}"})
    return rows


def paired_table(groups: dict[str, list[Summary]], reference: str) -> list[Row]:
    """Differences to the reference on the same seeds, and the probability that a run beats one of the reference.

    The probability is the share of all pairs of runs, ties counting half (arXiv 2108.13264): Mann and Whitney's U
    over their number.
    """
    base = {run["seed"]: run["average_success"] for run in groups[reference]}
    rows = []
    for name, runs in groups.items():
        if name == reference:
            continue
        differences = [run["average_success"] - base[run["seed"]] for run in runs if run["seed"] in base]
        wins = mannwhitneyu([run["average_success"] for run in runs], list(base.values())).statistic
        rows.append(
            {
                "method": name,
                "same seeds": str(len(differences)),
                "difference": interval(differences),
                "probability of improvement": f"{wins / (len(runs) * len(base)):.2f}",
            }
        )
    return rows


def recovery_table(groups: dict[str, list[Summary]], measure: str = "updates") -> list[Row]:
    """One row a group, earlier task and target; one column a task being learned, one number a seed in it.

    Empty where no run recorded the measure, "updates" or "first_reached" (`policy.metrics.Recovery`).
    """
    if not any(measure in entry for runs in groups.values() for run in runs for entry in run["recovery"]):
        return []
    rows = []
    for name, runs in groups.items():
        tasks = runs[0]["tasks"]
        for task in tasks[:-1]:
            for target in TARGETS:
                row = {"method": name, "task": task, "of its success": f"{100 * target:.0f} %"}
                for later in tasks[1:]:
                    found = [_entry(run, task, later, target, measure) for run in runs]
                    row[f"while {later}"] = ", ".join(filter(None, found))
                if any(row[f"while {later}"] for later in tasks[1:]):
                    rows.append(row)
    return rows


def recovery_curves(groups: dict[str, list[Summary]]) -> dict[str, list[tuple[str, list[int | None]]]]:
    """For each group, the first task's updates to 90 % at every transition and seed; None where it never came."""
    curves: dict[str, list[tuple[str, list[int | None]]]] = {}
    for name, runs in groups.items():
        first, *later = runs[0]["tasks"]
        curves[name] = [(task, _returns(runs, first, task)) for task in later]
    return curves


def _returns(runs: Sequence[Summary], task: str, later: str) -> list[int | None]:
    """One number a run, but for runs that had not learned the task: there is nothing to come back to."""
    entries = [e for run in runs for e in _entries(run, task, later, 0.9)]
    return [e["updates"] for e in entries if e["updates"] is not None or e["censored_at"] is not None]


def _entries(run: Summary, task: str, later: str, target: float) -> Iterable[dict[str, Any]]:
    return (e for e in run["recovery"] if (e["task"], e["while_learning"], e["target"]) == (task, later, target))


def _entry(run: Summary, task: str, later: str, target: float, measure: str) -> str:
    for entry in _entries(run, task, later, target):
        return updates_text(entry, measure) if measure in entry else "?"
    return ""


def interval(values: Sequence[float | None]) -> str:
    """Mean in points, with the bootstrap interval over seeds where there are several."""
    known = 100 * np.array([value for value in values if value is not None])
    if not len(known):
        return ""
    if len(known) == 1:
        return f"{known[0]:.1f}"
    low, high = bootstrap(known, np.random.default_rng(0))
    return f"{known.mean():.1f} ({low:.1f} to {high:.1f})"


def markdown(rows: list[Row]) -> str:
    """A table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def comma_separated(rows: list[Row]) -> str:
    """The same as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=__doc__)
    parser.add_argument("runs", nargs="+", help="folders of finished runs, or summary.json files")
    parser.add_argument("--output", default="comparison", help="folder for the tables and the figure (%(default)s)")
    parser.add_argument("--reference", help="what the others are paired with (default: replay, else the first)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
