import io
import json
from dataclasses import asdict

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from rich.console import Console

from policy import plots
from policy.console import print_summary, print_task
from policy.metrics import wilson
from policy.plots import plot_run
from policy.record import RunRecord
from policy.summary import recovery_table, success_rows, summarize
from policy.training import Progress

NAMES = ["lift", "can", "square"]
PERFECT = [True, True, True, True]
HALF = [True, True, False, False]
NONE = [False] * 4


def probe(later, task, update, successes):
    return {"while_learning": later, "task": task, "update": update, "successes": successes}


def finished():
    """lift: 1, 0.5, 0.75; can: 0.5, 0.5; square: 1. Probes of two episodes."""
    return Progress(
        task=3,
        update=0,
        successes=[[PERFECT], [HALF, HALF], [[True, True, True, False], HALF, PERFECT]],
        probes=[
            probe(1, 0, 2, [False, False]),
            probe(1, 0, 4, [True, False]),
            probe(1, 0, 20, [True, True]),
            probe(2, 0, 2, [False, False]),
            probe(2, 1, 2, [True, True]),
            probe(2, 0, 20, [True, False]),
            probe(2, 1, 20, [True, False]),
        ],
    )


def test_numbers_worked_by_hand():
    summary = summarize(finished(), NAMES)
    assert summary["tasks"] == NAMES
    assert summary["n_rollouts"] == 4
    assert summary["success"] == [[1.0, None, None], [0.5, 0.5, None], [0.75, 0.5, 1.0]]
    assert summary["average_success"] == pytest.approx((0.75 + 0.5 + 1.0) / 3)
    assert summary["forgetting"]["just_learned_all"] == pytest.approx((0.25 + 0 + 0) / 3)
    assert summary["forgetting"]["just_learned_without_last"] == pytest.approx(0.125)
    assert summary["forgetting"]["max_without_last"] == pytest.approx(0.125)
    assert summary["backward_transfer"] == pytest.approx(-0.125)
    assert summary["average_success_ci95"] == pytest.approx(list(wilson(9, 12)))
    assert summary["success_ci95"][1] == [list(wilson(2, 4)), list(wilson(2, 4)), None]
    assert json.loads(json.dumps(summary)) == summary


def test_recovery_is_read_from_the_probes():
    table = {(e["task"], e["while_learning"], e["target"]): e for e in recovery_table(finished(), NAMES)}
    assert len(table) == 9
    for target in (0.99, 0.9, 0.8):
        assert table["lift", "can", target]["updates"] == 20
        assert table["lift", "square", target]["updates"] is None
        assert table["lift", "square", target]["censored_at"] == 20
        # can's first two episodes both succeeded just after it was learned, though only half of all four:
        # the first probe finds it unmoved, the second below, and nothing back.
        assert table["can", "square", target]["updates"] is None
        assert table["can", "square", target]["censored_at"] == 20


def test_the_probes_themselves_are_told():
    curve = summarize(finished(), NAMES)["probes"][0]
    assert (curve["task"], curve["while_learning"], curve["n_rollouts"], curve["just_learned"]) == (
        "lift",
        "can",
        2,
        1,
    )
    assert (curve["updates"], curve["success"]) == ([2, 4, 20], [0.0, 0.5, 1.0])


def test_recovery_compares_the_probes_own_episodes():
    progress = finished()
    progress.successes[0][0] = [True, False, True, True]  # 0.75 of all, 0.5 of the probed episodes
    table = recovery_table(progress, NAMES)
    found = {e["target"]: e["updates"] for e in table if (e["task"], e["while_learning"]) == ("lift", "can")}
    assert found == {0.99: 4, 0.9: 4, 0.8: 4}


def test_what_was_not_measured_is_null():
    progress = Progress(task=1, successes=[[HALF]])
    summary = summarize(progress, NAMES[:2])
    assert summary["success"] == [[0.5, None], [None, None]]
    assert summary["average_success"] is None
    assert summary["average_success_ci95"] is None
    assert summary["recovery"] == []
    single = summarize(progress, NAMES[:1])
    assert single["average_success"] == 0.5
    assert single["forgetting"] == {
        "just_learned_all": 0.0,
        "just_learned_without_last": None,
        "max_without_last": None,
    }
    assert success_rows(Progress(), 2) == [[None, None], [None, None]]


def printed(function, *arguments):
    out = io.StringIO()
    function(Console(file=out, width=120), *arguments)
    return out.getvalue()


def test_the_table_after_a_task():
    text = printed(print_task, Progress(task=1, successes=finished().successes[:2]), NAMES)
    assert "after learning can (2 of 3)" in text
    rows = {
        line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:-1]]
        for line in text.splitlines()
        if "│" in line
    }
    low, high = wilson(2, 4)
    assert rows["lift"] == ["50", f"{100 * low:.0f} to {100 * high:.0f}", "100"]
    assert rows["can"][0] == rows["can"][2] == "50"
    assert "square" not in rows


def test_the_tables_at_the_end():
    summary = {**summarize(finished(), NAMES), "seconds": {"total": 90.0}}
    text = printed(print_summary, summary)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert ["square", "75", "50", "100"] in cells
    assert ["lift", "100", "", ""] in cells
    assert ["lift", "can", "20", "20", "20"] in cells
    assert ["lift", "square", "> 20", "> 20", "> 20"] in cells
    assert "average success 75.0 %" in text
    assert "forgetting 8.3 points" in text
    assert "1.5 minutes" in text


def test_one_task_prints_without_recovery():
    summary = {**summarize(Progress(task=1, successes=[[HALF]]), NAMES[:1]), "seconds": {"total": 1.0}}
    text = printed(print_summary, summary)
    assert "average success 50.0 %" in text
    assert "updates until" not in text


def test_the_curve_goes_through_probes_and_evaluations():
    figure = plots._success(finished(), NAMES, 20)
    curves = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].get_lines()}
    # The probe at update 20, a task's last, gives way to the evaluation there.
    assert curves["lift"] == [[20, 1.0], [22, 0.0], [24, 0.5], [40, 0.5], [42, 0.0], [60, 0.75]]
    assert curves["can"] == [[40, 0.5], [42, 1.0], [60, 0.5]]
    assert curves["square"] == [[60, 1.0]]
    dashed = [line.get_xdata()[0] for line in figure.axes[0].get_lines() if line.get_linestyle() == "--"]
    assert dashed == [0, 20, 40]
    plt.close(figure)


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_plots_are_written_whole(tmp_path, tasks):
    progress = finished()
    progress.successes = progress.successes[:tasks]
    plot_run(tmp_path / "plots", progress, NAMES, 20)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"success.png", "matrix.png"}
    for path in (tmp_path / "plots").iterdir():
        pixels = plt.imread(path)
        assert min(pixels.shape[:2]) > 200
        assert np.ptp(pixels[..., :3]) > 0.5
    assert plt.get_fignums() == []


def record(folder, progress):
    return RunRecord(folder, NAMES, 20, lambda: {"w": torch.ones(1)}, {"policy": {}}, {"method": "x"}, progress)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_record_writes_lines_checkpoints_and_the_summary(tmp_path, capsys):
    progress = Progress()
    run = record(tmp_path, progress)
    for update in range(1, 21):
        progress.update = update
        run.updated(progress, {"loss": 1.0 / update})
        if update == 10:
            run.save(progress, {"s": torch.zeros(2)}, ended=False)
    for update in range(1, 11):
        run.generator_updated(progress, update, 10, 0.5)
    progress.successes.append([HALF])
    run.task_ended(progress)
    progress.task, progress.update = 1, 0
    run.save(progress, {"s": torch.ones(2)}, ended=True)
    written = lines(tmp_path)
    assert [(e["kind"], e["update"]) for e in written] == [
        ("update", 10), ("update", 20), ("generator", 20), ("evaluation", 20),
    ]  # fmt: skip
    assert written[0]["loss"] == 0.1
    assert written[-1] | {"evaluated": "lift", "success": 0.5} == written[-1]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["0_lift"]
    manifest = json.loads((tmp_path / "checkpoints" / "0_lift" / "manifest.json").read_text())
    assert manifest["progress"] == asdict(progress)
    summary = run.finish(finished(), {"total": 3.0})
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["method"] == "x"
    assert "success %" in capsys.readouterr().out


def test_resumed_lines_written_after_the_checkpoint_are_dropped(tmp_path):
    progress = Progress()
    run = record(tmp_path, progress)
    for task in (0, 1):
        progress.task = task
        for update in range(1, 21):
            progress.update = update
            run.updated(progress, {"loss": float(update)})
        run.generator_updated(progress, 10, 10, 0.5)
        progress.successes.append([HALF] * (task + 1))
        run.task_ended(progress)
    run.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "update", "ta')  # cut short by a kill
    every = lines_before_cut(tmp_path)
    record(tmp_path, Progress(task=1, update=10)).close()
    assert lines(tmp_path) == [e for e in every if e["task_index"] == 0] + [
        e for e in every if (e["task_index"], e["kind"], e["update"]) == (1, "update", 10)
    ]
    record(tmp_path, Progress()).close()
    assert lines(tmp_path) == []


def lines_before_cut(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()[:-1]]
