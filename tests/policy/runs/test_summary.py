import json

import pytest

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.loop import Probe, Progress
from reconverge.policy.runs.metrics import wilson
from reconverge.policy.runs.summary import (
    LowestShare,
    ProbeCurve,
    Summary,
    TaskRecovery,
    lowest_shares,
    probe_curves,
    read_summary,
    recovery_table,
    success_rows,
    summarize,
)
from reconverge.seal import signed
from support.counted import Counted
from support.summaries import NAMES, finished, two_tasks, write_summary

HALF = [True, True, False, False]


def test_summarize_gives_numbers_worked_by_hand():
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


def test_recovery_table_is_read_from_the_probes():
    entries = recovery_table(probe_curves(finished(), NAMES))
    table = {(e.task, e.while_learning, e.target): e for e in entries}
    assert len(table) == 9
    for target in (0.99, 0.9, 0.8):
        assert table["lift", "can", target].updates == 20
        assert table["lift", "square", target].updates is None
        assert table["lift", "square", target].censored_at == 20
        # can's first two episodes both succeeded just after it was learned, though only half of all
        # four: the first probe finds it unmoved, the second below, and nothing back.
        assert table["can", "square", target].updates is None
        assert table["can", "square", target].censored_at == 20


def test_summarize_gives_the_probes():
    curve = summarize(finished(), NAMES)["probes"][0]
    assert (curve["task"], curve["while_learning"], curve["n_rollouts"], curve["just_learned"]) == (
        "lift",
        "can",
        2,
        1,
    )
    assert (curve["updates"], curve["success"]) == ([2, 4, 20], [0.0, 0.5, 1.0])


def test_the_probes_are_gone_through_once_for_all_pairs_of_tasks():
    progress = finished()
    progress.probes = Counted(progress.probes)
    assert len(probe_curves(progress, NAMES)) == 3
    assert progress.probes.times == 1


def test_lowest_shares_are_of_the_best_that_was_measured_before():
    """Task a is at 0.5 when just learned, then better; c never succeeded."""
    curves = [
        ProbeCurve("a", "b", 4, 0.5, [2, 10], [0.25, 0.75]),
        ProbeCurve("a", "d", 4, 0.5, [2, 10], [1.0, 0.375]),
        ProbeCurve("b", "d", 4, 1.0, [2, 10], [1.0, 1.0]),
        ProbeCurve("c", "d", 4, 0.0, [2], [0.0]),
    ]
    assert lowest_shares(curves) == [
        LowestShare("a", "b", 2, 0.25, 0.5),
        LowestShare("a", "d", 10, 0.375, 0.5),
        LowestShare("b", "d", 2, 1.0, 1.0),
    ]


def test_summarize_names_the_lowest_probe():
    assert summarize(finished(), NAMES)["lowest_share"] == {
        "task": "lift",
        "while_learning": "can",
        "update": 2,
        "success": 0.0,
        "share": 0.0,
    }
    assert summarize(Progress(1, 0, [[HALF]]), NAMES[:1])["lowest_share"] is None


def test_summarize_gives_liberos_metrics_where_the_current_task_was_probed():
    progress = finished()
    assert summarize(progress, NAMES)["learning"] == []
    nbt = ((0.5 + 0.25) / 2 + 0.0 + 0.0) / 3
    assert summarize(progress, NAMES)["libero"] == {"fwt": None, "nbt": nbt, "auc": None}
    for task in range(3):
        halfway, end = [task == 0, False], progress.successes[task][task][:2]
        progress.probes += [Probe(task, task, 10, halfway), Probe(task, task, 20, end)]
    summary = summarize(progress, NAMES)
    assert [curve["success"] for curve in summary["learning"]] == [[0.5, 1.0], [0.0, 1.0], [0, 1]]
    assert summary["libero"] == {
        "fwt": pytest.approx((0.75 + 0.5 + 0.5) / 3),
        "nbt": nbt,
        "auc": pytest.approx(((0.75 + 0.5 + 0.75) / 3 + (0.5 + 0.5) / 2 + 0.5) / 3),
    }
    assert len(summary["probes"]) == 3


def test_recovery_table_compares_the_probes_own_episodes():
    progress = finished()
    progress.successes[0][0] = [True, False, True, True]  # 0.75 of all, 0.5 of the probed episodes
    table = recovery_table(probe_curves(progress, NAMES))
    found = {e.target: e.updates for e in table if (e.task, e.while_learning) == ("lift", "can")}
    assert found == {0.99: 4, 0.9: 4, 0.8: 4}


def test_summarize_gives_null_for_what_was_not_measured():
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


def test_from_json_returns_what_to_json_wrote():
    value = two_tasks()
    summary = Summary.from_json(value, "summary.json")
    assert summary.to_json() == value
    assert list(summary.to_json()) == list(value)
    assert summary.recovery[0] == TaskRecovery("a", "b", 0.99, None, 100, None)
    assert Summary.from_json({**value, "of another version": 1}, "summary.json") == summary


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": "one"}, "summary.json: seed: must be a whole number, got 'one'"),
        ({"seed": True}, "summary.json: seed: must be a whole number, got True"),
        ({"seed": None}, "summary.json: seed: must be a whole number, got None"),
        ({"success": 1.0}, "summary.json: success: must be a list, got 1.0"),
        ({"success": [[1.0, None]]}, "summary.json: success must have 2 rows of 2"),
        ({"boundaries": [[2, 1]]}, "boundaries holds .*: must be a task, 0 to 1, and an update"),
        ({"success": [[1.5, None], [1.0, 1.0]]}, "success holds 1.5: must be 0 to 1"),
        ({"success": [["a", None], [1.0, 1.0]]}, r"success\[0\]\[0\]: must be a number, got 'a'"),
        ({"tasks": []}, "success must have 0 rows"),
        ({"tasks": ["a", "/home/b"]}, "summary.json: tasks: '/home/b' is no name; restore it"),
        ({"tasks": ["../../a", "b"]}, "summary.json: tasks: '../../a' is no name; restore it"),
        ({"tasks": ["x", "y"]}, "a while learning b is not of its tasks x, y"),
        ({"average_success": float("nan")}, "average_success holds nan: must be 0 to 1"),
        ({"n_rollouts": 0}, "updates_per_task and n_rollouts must be at least 1"),
        ({"forgetting": {}}, "summary.json: forgetting: lacks 'just_learned_all'"),
        ({"seconds": {"total": 1.0}}, "summary.json: seconds: lacks 'demonstrations'"),
        ({"recovery": [{"task": "a"}]}, r"recovery\[0\]: lacks 'while_learning'"),
        ({"average_success_ci95": [0.5]}, "average_success_ci95 must be two numbers"),
        (
            {"probes": [{**two_tasks()["probes"][0], "updates": [2]}]},
            "probes need a success of rollouts for each update",
        ),
        (
            {"learning": [{**two_tasks()["learning"][0], "success": [0.5, 2.0]}]},
            "probes holds 2.0: must be 0 to 1",
        ),
        ({"options": []}, r"options: must be a map, got \[\]"),
    ],
)
def test_from_json_names_the_file_and_the_field(changes, said):
    with pytest.raises(ReconvergeError, match=said):
        Summary.from_json(two_tasks(**changes), "summary.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is no JSON"),
        (b"\xff", "cannot be read"),
        (b"", "is no JSON"),
        (b"\0" * 100, "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[" * 200 + b"]" * 200, "is no JSON of ours"),
        (b"9" * 5000, "is no JSON"),
        (b"null", "must be a map"),
        (json.dumps(two_tasks(seed=10**300)).encode(), "seed: must be a number up to"),
        (json.dumps(two_tasks(average_success=10**400)).encode(), "average_success: must be a num"),
        (json.dumps(two_tasks(backward_transfer=float("nan"))).encode(), "holds NaN"),
        (json.dumps(two_tasks(backward_transfer=float("inf"))).encode(), "backward_transfer: must"),
        (b"[]", "must be a map"),
        (json.dumps(two_tasks(average_success=None)).encode(), "average_success: must be a number"),
        (
            json.dumps(two_tasks(success=[[None, None], [0.8, 1.0]])).encode(),
            "success lacks a task already",
        ),
    ],
)
def test_read_summary_refuses_a_damaged_or_unfinished_one(tmp_path, content, said):
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(ReconvergeError, match=rf"summary\.json.* {said}"):
        read_summary(tmp_path)


def test_read_summary_takes_a_folder_or_the_file(tmp_path):
    folder = write_summary(tmp_path / "run", two_tasks())
    assert read_summary(folder) == read_summary(folder / "summary.json")
    with pytest.raises(ReconvergeError, match="give folders of finished runs"):
        read_summary(tmp_path)


def test_read_summary_refuses_one_that_was_edited(tmp_path):
    folder = write_summary(tmp_path / "run", signed(two_tasks()))
    assert read_summary(folder).average_success == 0.9
    edited = write_summary(tmp_path / "edited", signed(two_tasks()) | {"average_success": 0.95})
    with pytest.raises(ReconvergeError, match=r"summary\.json: is not as it was written"):
        read_summary(edited)
