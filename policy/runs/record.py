"""The record of a run: metrics.jsonl, loggers, checkpoints, summary.json, progress bars."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from typing import Any, Protocol

from torch import Tensor
from tqdm import tqdm

from reconverge.errors import ReconvergeError
from reconverge.files import write_json, write_text
from reconverge.policy.continual.loop import Progress
from reconverge.policy.runs import checkpoint
from reconverge.policy.runs.folder import CHECKPOINTS, METRICS_FILE
from reconverge.policy.runs.loggers import make_loggers
from reconverge.policy.runs.summary import Summary, rate, read_summary, summarize
from reconverge.progress import progress_bar
from reconverge.seal import signed

RESULTS = ("report.html", "replay_quality.json", "videos", "summary.json")  # of its end
LOG_EVERY = 10  # updates between lines of metrics.jsonl


class Reporter(Protocol):
    """Shows results as they come, as tables on a console or as pictures."""

    def task_ended(self, progress: Progress) -> None: ...
    def finished(self, summary: Summary) -> None: ...


class RunRecord:
    """Write the files of a run in `folder` and show its progress: an Observer of the loop.

    `manifest` goes into every checkpoint, `facts` into summary.json, scalars to TensorBoard and to
    `logger`, a key of LOGGERS; `reporter` hears of every result. If the run is resumed, lines of
    metrics.jsonl that were written after `progress` are dropped. What a finished run that learns on
    had ended with goes into `before/`. `started` is the time.perf_counter() at which this process
    began; what the run took before it is in `progress`.
    """

    def __init__(
        self,
        folder: Path,
        names: list[str],
        updates_per_task: int,
        weights: Callable[[], dict[str, Tensor]],
        manifest: dict[str, Any],
        facts: dict[str, Any],
        progress: Progress,
        reporter: Reporter,
        started: float,
        logger: str = "none",
    ):
        self.folder, self.names, self._updates = folder, names, updates_per_task
        self._weights, self._manifest, self._facts = weights, manifest, facts
        self._reporter, self._started = reporter, started - progress.elapsed_seconds
        if progress.task < len(names):
            _set_aside(folder)
        path = folder / METRICS_FILE
        _drop_lines_after(path, progress)
        self._lines = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115
        self._learned = _updates_learned(path)
        self._loggers = make_loggers(logger, folder, facts, self._step(progress))
        self._bar: tqdm | None = None

    def updated(self, progress: Progress, metrics: dict[str, float]) -> None:
        bar = self._bar_for(
            f"learning {self.names[progress.task]}", self._updates, progress.update - 1
        )
        bar.update()
        if progress.boundaries[-1:] == [[progress.task, progress.update]]:
            tqdm.write(f"a new task is noticed: update {progress.update} of {bar.desc}")
        if progress.update % LOG_EVERY and progress.update != self._updates:
            return
        shown = {name: f"{value:.2g}" for name, value in metrics.items() if name != "learning_rate"}
        bar.set_postfix(shown, refresh=False)
        self._write("update", progress.task, progress.update, **metrics)
        self._log(progress, {f"train/{name}": value for name, value in metrics.items()})

    def probed(self, progress: Progress) -> None:
        now = (progress.task, progress.update)
        for probe in [p for p in progress.probes if (p.while_learning, p.update) == now]:
            name, success = self.names[probe.task], rate(probe.successes)
            self._write("probe", *now, evaluated=name, success=success)
            self._log(progress, {f"success/{name}": success})

    def generator_updated(self, progress: Progress, update: int, updates: int, loss: float) -> None:
        learned = max(0, progress.task - 1)  # 0: a boundary noticed within the first task
        bar = self._bar_for(f"replay generator of {self.names[learned]}", updates, update - 1)
        bar.update()
        if update % LOG_EVERY == 0 or update == updates:
            bar.set_postfix(loss=f"{loss:.2g}", refresh=False)
            self._write("generator", learned, self._updates, generator_update=update, loss=loss)
            for logger in self._loggers:
                logger.log({f"generator/{self.names[learned]}": loss}, update, "generator_update")

    def task_ended(self, progress: Progress) -> None:
        self._close_bar()
        now = (progress.task, progress.update)
        for name, successes in zip(self.names, progress.successes[-1], strict=False):
            success = rate(successes)
            self._write("evaluation", *now, evaluated=name, success=success)
            self._log(progress, {f"success/{name}": success})
        self._reporter.task_ended(progress)

    def save(self, progress: Progress, state: dict[str, Tensor], ended: bool) -> None:
        self._measure(progress)
        manifest = {**self._manifest, "progress": asdict(progress)}
        saved = checkpoint.Checkpoint(self._weights(), state, manifest)
        task = progress.task - 1 if ended else progress.task
        update = None if ended else progress.update
        checkpoint.save(self.folder / CHECKPOINTS, task, self.names[task], update, saved)

    def finish(self, progress: Progress, memory_bytes: int | None, **further: Any) -> Summary:
        """Write summary.json, with `further` fields of Summary, report it and return it."""
        self._measure(progress)
        measured = {
            "seconds": _seconds(progress),
            "peak_memory_mib": progress.peak_memory_mib,
            "memory_bytes": memory_bytes,
        }
        measured |= _measured_before(self.folder)
        summary = {**self._facts, **summarize(progress, self.names), **measured, **further}
        write_json(self.folder / "summary.json", signed(summary))
        finished = read_summary(self.folder)
        self._reporter.finished(finished)
        self.close(complete=True)
        return finished

    def _measure(self, progress: Progress) -> None:
        """Bring the time and the memory of the run up to now."""
        progress.elapsed_seconds = time.perf_counter() - self._started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # Linux counts in KiB
        progress.peak_memory_mib = max(progress.peak_memory_mib, peak)

    def close(self, complete: bool = False) -> None:
        """Close all files; the run has ended if `complete`, or may be resumed."""
        self._close_bar()
        self._lines.close()
        for logger in self._loggers:
            logger.close(complete)

    def _log(self, progress: Progress, values: dict[str, float]) -> None:
        for logger in self._loggers:
            logger.log(values, self._step(progress), "update")

    def _step(self, progress: Progress) -> int:
        """Return the updates of the whole run: an earlier task may have had fewer than this one."""
        before = (self._learned.get(task, self._updates) for task in range(progress.task))
        return sum(before) + progress.update

    def _write(self, kind: str, task: int, update: int, **values: Any) -> None:
        where = {"kind": kind, "task": self.names[task], "task_index": task, "update": update}
        self._lines.write(json.dumps({**where, **values, "time": time.time()}) + "\n")

    def _bar_for(self, title: str, total: int, done: int) -> tqdm:
        if self._bar is None or self._bar.desc != title:
            self._close_bar()
            self._bar = progress_bar(title, "update", total, done=done)
        return self._bar

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _set_aside(folder: Path) -> None:
    """Move what a run has ended with into `before/`: it learns on, and is no finished one."""
    if not (folder / "summary.json").exists():
        return
    before = folder / "before"
    if (before / "summary.json").exists():  # of an earlier end, whole: the summary is moved last
        rmtree(before)
    before.mkdir(exist_ok=True)
    for name in RESULTS:
        if (folder / name).exists():
            rmtree(before / name, ignore_errors=True)  # a folder that an interrupted move left
            (folder / name).rename(before / name)


def _seconds(progress: Progress) -> dict[str, float]:
    """Return the seconds of summary.json."""
    seconds = {
        "demonstrations": progress.demonstration_seconds,
        "training": progress.training_seconds,
        "evaluation": progress.evaluation_seconds,
    }
    seconds["total"] = max(progress.elapsed_seconds, sum(seconds.values()))  # old checkpoints: 0
    seconds["training_cpu"] = progress.cpu_seconds
    return {name: round(value, 1) for name, value in seconds.items()}


def _measured_before(folder: Path) -> dict[str, Any]:
    """Return the time and memory of a run that was finished already; nothing of another."""
    try:
        summary = read_summary(folder)
    except ReconvergeError:
        return {}
    return {"seconds": asdict(summary.seconds), "peak_memory_mib": summary.peak_memory_mib}


def _drop_lines_after(path: Path, progress: Progress) -> None:
    """Drop the lines of metrics.jsonl that a run resumed from `progress` will write again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines(keepends=True):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # the line that a kill cut short
            continue
        if _was_before(entry, progress):
            kept.append(line)
    write_text(path, "".join(kept))


def _updates_learned(path: Path) -> dict[int, int]:
    """Return the updates that metrics.jsonl tells of every task that has ended."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    entries = [json.loads(line) for line in lines]
    return {e["task_index"]: e["update"] for e in entries if e["kind"] == "evaluation"}


def _was_before(entry: dict[str, Any], progress: Progress) -> bool:
    """Return whether a line of metrics.jsonl was written on the way to `progress`."""
    task = entry["task_index"]
    if entry["kind"] == "generator":  # trained between its task and the next one's first update
        return (task + 1, 0) < (progress.task, progress.update)
    if entry["kind"] == "evaluation":
        return task < progress.task
    return (task, entry["update"]) <= (progress.task, progress.update)
