"""What a run prints and draws as it goes."""

import io

import imageio.v3 as iio
import pytest
from rich.console import Console

from reconverge.policy.continual.loop import Progress
from reconverge.policy.reports.live import plot_run, print_summary, print_task
from reconverge.policy.runs.metrics import wilson
from reconverge.policy.runs.summary import Summary, summarize
from support.summaries import FACTS, HALF, NAMES, SECONDS, finished


def printed(function, *arguments):
    out = io.StringIO()
    function(Console(file=out, width=120), *arguments)
    return out.getvalue()


def cells(text):
    rows = [line.split("│")[1:-1] for line in text.splitlines() if "│" in line]
    return [[cell.strip() for cell in row] for row in rows]


def summary(progress, names):
    value = {**FACTS, **summarize(progress, names), "seconds": SECONDS, "peak_memory_mib": 1}
    return Summary.from_json(value, "summary.json")


def test_print_task_shows_every_task_seen():
    text = printed(print_task, Progress(task=1, successes=finished().successes[:2]), NAMES)
    assert "After learning can (2 of 3)" in text
    low, high = (f"{100 * bound:.0f}" for bound in wilson(2, 4))
    half = f"50 ({low} to {high})"
    assert cells(text) == [["1 lift", "100 (51 to 100)", half, "-50"], ["2 can", half, half, "0"]]


def test_print_summary_shows_the_matrix_recovery_and_headlines():
    text = printed(print_summary, summary(finished(), NAMES))
    rows = cells(text)
    assert ["3 square", "75", "50", "100"] in rows
    assert ["1 lift", "100", "", ""] in rows
    assert ["lift", "can", "20", "20", "20"] in rows
    assert ["lift", "square", "> 20", "> 20", "> 20"] in rows
    assert ["lift", "0*", "0*"] in rows
    assert "lowest probe 0.0 % (of its best: lift while learning can, after 2 updates, of 2" in text
    assert "average success 75.0 % (95 % interval 46.8 to 91.1)" in text
    assert "forgetting 8.3 points (95 % interval " in text
    assert "LIBERO's FWT not measured (NBT 12.5 points, see evaluation.probe_current)" in text
    assert "time 1.5 minutes" in text


def test_print_summary_of_one_task_has_no_recovery():
    text = printed(print_summary, summary(Progress(task=1, successes=[[HALF]]), NAMES[:1]))
    assert "average success 50.0 %" in text
    assert "updates" not in text


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_plot_run_writes_whole_pictures(tmp_path, tasks):
    progress = finished()
    progress.successes = progress.successes[:tasks]
    progress.probes = [probe for probe in progress.probes if probe.while_learning < tasks]
    plot_run(tmp_path / "plots", progress, NAMES, 20)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"success.png", "matrix.png"}
    for path in (tmp_path / "plots").iterdir():
        picture = iio.imread(path)
        assert min(picture.shape[:2]) > 150
        assert picture[..., :3].max() - picture[..., :3].min() > 128
