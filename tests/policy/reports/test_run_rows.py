"""Rows of one run, from summaries whose numbers are known."""

import pytest

from reconverge.policy.reports.page import write_report
from reconverge.policy.reports.rows.run_rows import (
    headlines,
    success_by_task,
    success_matrix,
    task_table,
)
from reconverge.policy.runs.summary import Summary
from support.summaries import two_tasks, write_summary


def summary(**changes):
    return Summary.from_json(two_tasks(**changes), "summary.json")


def notes(run):
    return {headline.label: (headline.value, headline.note) for headline in headlines(run)}


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


@pytest.fixture
def page(tmp_path):
    def page(**changes):
        folder = write_summary(
            tmp_path / f"run{len(list(tmp_path.iterdir()))}", two_tasks(**changes)
        )
        write_report([folder], folder / "report.html")
        return " ".join((folder / "report.html").read_text().split())

    return page


def test_headlines_of_probes_say_of_how_many_episodes():
    found = notes(summary())
    assert found["lowest probe"][1].endswith("after 200 updates, of 10 probe episodes")
    assert found["slowest return to 90 %"][1] == "of a while learning b, of 10 probe episodes"
    pictures = notes(summary(judge={"test_accuracy": 0.9}))
    assert pictures["lowest probe"][1].endswith(", of 10 probed pictures")
    assert notes(summary(probes=[]))["lowest probe"][1].endswith("after 200 updates")


def test_headlines_have_the_nbt_of_the_success_matrix():
    """The file has 0.2, of an earlier definition: 20 points lost of one task of two."""
    assert notes(summary())["LIBERO's FWT"][1] == "NBT 10.0 points, AUC 63.7 %"


def test_tasks_learned_at_once_were_not_learned_in_turn(page):
    together = summary(method="multitask")
    assert list(notes(together)) == ["average success", "time"]
    assert task_table(together).columns == ["task", "at the end (%)"]
    assert texts(task_table(together)) == [["1 a", "80 (67 to 89)"], ["2 b", "100 (93 to 100)"]]
    assert texts(success_matrix(together)) == [
        ["200 updates", "100", ""],
        ["400 updates", "80", "100"],
    ]
    text = page(method="multitask")
    assert "all at once a, b; 200 gradient updates and 50 rollouts a task, seed" in text
    for words in (
        "forgetting",
        "in the order learned",
        "just learned",
        "Recovery",
        "learned in the",
    ):
        assert words in page()
        assert words not in text


def test_the_page_says_on_what_a_run_was_evaluated(page):
    assert "50 rollouts a task (selection episodes: settings were chosen on them), seed" in page(
        evaluation_seeds="selection"
    )
    pictures = page(judge={"test_accuracy": 0.9})
    assert "gradient updates and 50 generated pictures a task" in pictures
    assert "50 generated pictures each" in pictures
    assert "rollouts" not in pictures.split("Full configuration")[0]


def test_the_page_says_of_how_many_episodes_probes_are(page):
    text = page()
    assert "probes on the way, of 10 probe episodes, with Wilson" in text
    assert "nothing to come back to. Rates are of 10 probe episodes." in text
    assert "Lowest probe (n = 10) of the task" in text


def test_rates_are_as_fine_as_the_rollouts_tell():
    rows = [[1.0, None], [298 / 300, 1 / 300]]
    found = texts(success_by_task("x", ["a", "b"], rows, 300))
    assert [found[0][1], found[0][3]] == ["100.0 (98.7 to 100.0)", "-0.7"]
    assert found[1][3] == "0"
    few = texts(success_by_task("x", ["a", "b"], [[1.0, None], [0.99, 1.0]], 100))
    assert [few[0][2], few[0][3]] == ["99 (95 to 100)", "-1"]
    many = texts(success_by_task("x", ["a"], [[1.0]], 300))
    assert many == [["1 a", "100.0 (98.7 to 100.0)", "100.0 (98.7 to 100.0)", "0"]]


def test_a_change_that_rounds_to_0_has_no_sign():
    found = texts(success_by_task("x", ["a", "b"], [[1.0, None], [2999 / 3000, 1.0]], 3000))
    assert found[0][3] == "0"
