"""Rows of recovery, where there are many of them."""

from dataclasses import replace

from reconverge.policy.reports.rows.recovery import (
    lowest_table,
    recovery_by_method,
    recovery_tables,
)
from reconverge.policy.runs.summary import ProbeCurve, Summary, TaskRecovery
from support.counted import Counted
from support.summaries import two_tasks

TASKS = [f"t{i}" for i in range(10)]


def entry(task, later, updates, censored_at=None):
    return TaskRecovery(task, later, 0.9, updates, censored_at, updates)


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def ten_tasks():
    """Task i is back after 10 i updates, but t4 never while t7 is learned, and t0 never fell."""
    found = [entry(TASKS[i], TASKS[later], 10 * i) for later in range(1, 10) for i in range(later)]
    index = next(i for i, e in enumerate(found) if (e.task, e.while_learning) == ("t4", "t7"))
    found[index] = entry("t4", "t7", None, 500)
    return found


def test_the_slowest_of_every_transition_stand_before_many_rows():
    short, whole = recovery_tables(ten_tasks())
    assert len(whole.rows) == 45
    assert texts(short)[0] == ["t1", "0"]
    assert texts(short)[1] == ["t2", "10 (t1)"]
    assert texts(short)[6] == ["t7", "> 500 (t4)"]
    assert texts(short)[8] == ["t9", "80 (t8)"]


def test_few_rows_stand_alone():
    (table,) = recovery_tables(ten_tasks()[:3])
    assert texts(table) == [["t0", "t1", "0"], ["t0", "t2", "0"], ["t1", "t2", "10"]]
    assert recovery_tables([]) == []


def test_a_task_that_never_succeeded_is_not_the_slowest():
    many = [TaskRecovery(f"t{i}", "t11", 0.9, None, None, None) for i in range(11)]
    assert texts(recovery_tables(many)[0]) == [["t11", "-"]]
    many[3] = entry("t3", "t11", 20)
    assert texts(recovery_tables(many)[0]) == [["t11", "20 (t3)"]]


def test_lowest_table_marks_what_fell_below_90_percent_of_its_best():
    curves = [
        ProbeCurve("a", "b", 30, 1.0, [2, 10], [0.9, 1.0]),
        ProbeCurve("a", "c", 30, 1.0, [2, 10], [1.0, 26 / 29]),
        ProbeCurve("b", "c", 30, 0.5, [2], [0.6]),
    ]
    table = lowest_table(curves)
    assert list(table.columns) == ["task", "b", "c"]
    assert texts(table) == [["a", "90", "90*"], ["b", "", "120"]]
    assert lowest_table([]) is None
    assert lowest_table([ProbeCurve("a", "b", 30, 0.0, [2], [0.0])]) is None


def test_the_entries_of_a_run_are_gone_through_once_for_all_cells():
    run = Summary.from_json(two_tasks(), "summary.json")
    run = replace(run, recovery=Counted(run.recovery))
    assert len(recovery_by_method({"replay": [run]}, "updates").rows) == 3
    assert run.recovery.times == 1
