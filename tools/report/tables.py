"""Tables of a report: rows of cells that the page sorts by their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps

from policy.metrics import combination_interval, wilson
from policy.summary import updates_text
from tools.compare import Row, Summary
from tools.report.run import Run

HEAT = colormaps["viridis"]


@dataclass(frozen=True)
class Cell:
    """`value` is what a number is sorted by; `style` is CSS."""

    text: str
    value: float | None = None
    style: str = ""


@dataclass(frozen=True)
class Table:
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]  # the first cell of a row is its heading
    sortable: bool = True
    heat: bool = False  # small coloured cells under upright headings


@dataclass(frozen=True)
class Headline:
    label: str
    value: str
    note: str


def headlines(summary: Summary) -> list[Headline]:
    """What the run comes to, with 95 % intervals."""
    found = [
        Headline(
            "average success",
            f"{_number(100 * summary['average_success'])} %",
            _interval(summary["average_success_ci95"]),
        )
    ]
    R, n, K = summary["success"], summary["n_rollouts"], len(summary["tasks"])
    for label, value, terms, sign in (
        ("forgetting", summary["forgetting"]["just_learned_all"], K, 1),
        ("backward transfer", summary["backward_transfer"], K - 1, -1),
    ):
        if value is None or K == 1:
            continue
        rates = [*(R[i][i] for i in range(K - 1)), *R[-1][:-1]]
        weights = [sign / terms] * (K - 1) + [-sign / terms] * (K - 1)
        interval = combination_interval(weights, rates, [n] * len(rates))
        found.append(Headline(label, f"{_number(100 * value)} points", _interval(interval)))
    if summary["recovery"]:
        found.append(_slowest(summary["recovery"]))
    seconds = summary["seconds"]
    note = f"training {seconds['training'] / 60:.1f}, evaluation {seconds['evaluation'] / 60:.1f} minutes"
    found.append(Headline("time", f"{seconds['total'] / 60:.1f} minutes", note))
    return found


def _slowest(entries: Sequence[dict[str, Any]]) -> Headline:
    """The slowest return to 90 %."""
    known = [e for e in entries if e["target"] == 0.9 and (e["updates"], e["censored_at"]) != (None, None)]
    if not known:
        return Headline("slowest return to 90 %", "unknown", "no task had a success to come back to")
    slowest = max(known, key=lambda entry: updates_cell(entry).value or 0.0)
    if slowest["updates"] == 0:
        return Headline("slowest return to 90 %", "none fell", "no probe found a task below 90 % of its success")
    note = f"of {slowest['task']} while learning {slowest['while_learning']}"
    return Headline("slowest return to 90 %", f"{updates_cell(slowest).text} updates", note)


def success_by_task(summary: Summary) -> Table:
    """Just learned, and at the end."""
    rows = []
    for i, task in enumerate(summary["tasks"]):
        learned, end = summary["success"][i][i], summary["success"][-1][i]
        change = None if learned is None or end is None else 100 * (end - learned)
        points = Cell("") if change is None else Cell(f"{change:+.0f}" if change else "0", change)
        cells = [rate_cell(learned, summary["n_rollouts"]), rate_cell(end, summary["n_rollouts"]), points]
        rows.append([Cell(f"{i + 1} {task}", i), *cells])
    return Table(
        f"Success of every task, {summary['n_rollouts']} rollouts each, with Wilson's 95 % intervals.",
        ["task", "just learned (%)", "at the end (%)", "change (points)"],
        rows,
    )


def matrix(summary: Summary) -> Table:
    """The success matrix as a heat map."""
    tasks = summary["tasks"]
    rows = [
        [Cell(f"{i + 1} {task}"), *(heat_cell(value) for value in row)]
        for i, (task, row) in enumerate(zip(tasks, summary["success"], strict=True))
    ]
    return Table(
        "Success (%) of the task of each column after learning the task of each row; empty where not measured.",
        ["after learning", *tasks], rows, sortable=False, heat=True,
    )  # fmt: skip


def recovery(summary: Summary) -> Table:
    """Updates until an earlier task was back, at every transition probed."""
    entries = summary["recovery"]
    targets = sorted({entry["target"] for entry in entries}, reverse=True)
    rows = []
    for task, later in dict.fromkeys((entry["task"], entry["while_learning"]) for entry in entries):
        found = {e["target"]: e for e in entries if (e["task"], e["while_learning"]) == (task, later)}
        rows.append([Cell(task), Cell(later), *(updates_cell(found[target]) for target in targets)])
    return Table(
        "Gradient updates of the new task until an earlier one was back at a share of its success just after it was "
        "learned. 0: no probe found it below; > n: not within n; -: nothing to come back to.",
        ["task", "while learning", *(f"{100 * target:.0f} %" for target in targets)],
        rows,
    )


def replay_distances(run: Run) -> Table:
    """Median distances to the nearest real window."""
    rows = []
    for entry in run.replay:
        middle = len(entry["nearest"]["quantile"]) // 2
        real, made = entry["nearest"]["real"][middle], entry["nearest"]["generated"][middle]
        cells = [Cell(f"{made:.3f}", made), Cell(f"{real:.3f}", real), Cell(f"{entry['ratio']:.2f}", entry["ratio"])]
        rows.append([Cell(entry["task"]), *cells])
    return Table(
        "Median distance from a window to the nearest real one, in half ranges of an entry (root mean square).",
        ["task", "generated", "real", "ratio"],
        rows,
    )


def final_success(runs: Sequence[Run], names: Sequence[str]) -> Table:
    """Success of every task at the end, a row a run, as a heat map."""
    tasks = list(dict.fromkeys(task for run in runs for task in run.summary["tasks"]))
    rows = []
    for name, run in zip(names, runs, strict=True):
        end = dict(zip(run.summary["tasks"], run.summary["success"][-1], strict=True))
        rows.append([Cell(name), *(heat_cell(end.get(task)) for task in tasks)])
    return Table("Success (%) of every task at the end of each run.", ["run", *tasks], rows, heat=True)


def runs_table(runs: Sequence[Run], names: Sequence[str]) -> Table:
    """One row a run: what it is and what it came to."""
    rows = []
    for name, run in zip(names, runs, strict=True):
        s = run.summary
        low, high = s["average_success_ci95"]
        success = Cell(
            f"{_number(100 * s['average_success'])} ({100 * low:.0f} to {100 * high:.0f})", s["average_success"]
        )
        forgetting = 100 * s["forgetting"]["just_learned_all"]
        minutes = s["seconds"]["total"] / 60
        what = [Cell(name), Cell(s["method"]), Cell(str(s["seed"]), s["seed"])]
        rows.append([*what, success, Cell(_number(forgetting), forgetting), Cell(f"{minutes:.1f}", minutes)])
    columns = ["run", "method", "seed", "average success (%)", "forgetting (points)", "minutes"]
    return Table("The runs, with Wilson's 95 % intervals over their rollouts.", columns, rows)


def plain(caption: str, rows: Sequence[Row]) -> Table:
    """A table of tools.compare; cells that begin with a number are sorted by it."""
    cells = [[Cell(text, _leading(text)) for text in row.values()] for row in rows]
    return Table(caption, [name.replace("_", " ") for name in rows[0]], cells)


def heat_cell(rate: float | None) -> Cell:
    """A success rate on its colour, in black or white ink."""
    if rate is None:
        return Cell("")
    red, green, blue, _ = HEAT(rate)
    ink = "#000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.42 else "#fff"
    background = f"rgb({255 * red:.0f} {255 * green:.0f} {255 * blue:.0f})"
    return Cell(f"{100 * rate:.0f}", rate, f"background: {background}; color: {ink}")


def rate_cell(rate: float | None, n: int) -> Cell:
    if rate is None:
        return Cell("")
    low, high = wilson(round(rate * n), n)
    return Cell(f"{100 * rate:.0f} ({100 * low:.0f} to {100 * high:.0f})", rate)


def updates_cell(entry: dict[str, Any]) -> Cell:
    """What is censored is sorted behind what was reached."""
    censored = entry["censored_at"]
    behind = None if censored is None else censored + 0.5
    return Cell(updates_text(entry), behind if entry["updates"] is None else entry["updates"])


def _leading(text: str) -> float | None:
    first = text.removeprefix("> ").split(",")[0].split(" ")[0]
    try:
        return float(first) + (0.5 if text.startswith(">") else 0.0)
    except ValueError:
        return None


def _number(value: float) -> str:
    """One decimal; no minus before zero."""
    return f"{round(value, 1) + 0.0:.1f}"


def _interval(bounds: Sequence[float]) -> str:
    low, high = (_number(100 * bound) for bound in bounds)
    return f"95 % interval {low} to {high}"
