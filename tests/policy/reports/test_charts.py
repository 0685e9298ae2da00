"""What the charts draw, read from the figures."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from reconverge.policy.reports.charts import results as charts
from reconverge.policy.reports.charts.frontier import Cost, frontier
from reconverge.policy.reports.charts.style import COLORS, STYLE, svg, write_png
from reconverge.policy.reports.charts.training_charts import losses
from reconverge.policy.reports.run import GeneratorUpdate, LoggedUpdate, success_curves
from reconverge.policy.runs.summary import ProbeCurve, probe_curves, success_rows
from support.summaries import NAMES, finished


def drawn(chart):
    figure = Figure(figsize=(9, 3))
    with matplotlib.rc_context(STYLE):
        chart.draw(figure, False)
    return figure.axes


def series(axes):
    """What the chart draws of a task: its line, then its evaluations where they are apart."""
    return [line for line in axes.get_lines() if line.get_linestyle() != "--"]


def curves():
    progress = finished()
    rows, probes = success_rows(progress, 3), probe_curves(progress, NAMES)
    return success_curves(NAMES, rows, 4, probes, 20)


def test_success_goes_through_probes_and_evaluations():
    panels = drawn(charts.success(curves(), 3, 20))
    assert [axes.get_title("left") for axes in panels] == [
        "1 lift: success (%)",
        "2 can",
        "3 square",
    ]
    lift, can, square = ([line.get_xydata().tolist() for line in series(axes)] for axes in panels)
    # The line goes through the first two episodes throughout, of which lift had both at update 20.
    (lift, ends), (can, _), (_, square) = lift, can, square
    assert [y for _, y in lift] == [100, 0, 50, 100, 0, 50]
    assert ends == [[1, 100], [2, 50], [3, 75]]
    early = [np.log1p(update) / np.log1p(20) for update in (2, 4)]
    assert [x for x, _ in lift] == pytest.approx(
        [1, 1 + early[0], 1 + early[1], 2, 2 + early[0], 3]
    )
    assert can == [[2, 100], [pytest.approx(2 + early[0]), 100], [3, 50]]
    assert square == [[3, 100]]
    dashed = [line for line in panels[0].get_lines() if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [1, 2]
    assert {axes.get_ylim()[0] for axes in panels} == {0}


def test_success_tells_probes_and_evaluations_apart():
    found = curves()
    panels = drawn(charts.success(found, 3, 20))
    looks = [[(line.get_marker(), line.get_label()[:5]) for line in series(a)] for a in panels]
    assert looks[:2] == 2 * [[("o", "first"), ("D", "all 4")]]
    assert [mark for mark, _ in looks[2]] == ["None", "D"]  # square was not probed
    legend = panels[0].figure.legends[0]
    assert [t.get_text() for t in legend.get_texts()] == ["first 2 episodes", "all 4 episodes"]
    ends = [axes.texts[0].get_text() for axes in panels]
    assert ends == ["75 %", "50 %", "100 %"]
    assert "lift 75 %" in charts.success(found, 3, 20).alt


def test_success_of_evaluations_alone_has_one_kind_of_mark():
    panels = drawn(charts.success(success_curves(["a"], [[1.0]], 4, [], 20), 1, 20))
    assert [line.get_marker() for line in series(panels[0])] == ["o"]
    assert not panels[0].figure.legends


def test_success_of_a_run_that_went_on_places_updates_by_each_tasks_own():
    """The second task was learned for 20 updates, the third for 40."""
    probes = [
        ProbeCurve("a", "b", 4, 1.0, [10, 20], [0.5, 0.75]),
        ProbeCurve("a", "c", 4, 1.0, [10, 40], [0.5, 1.0]),
        ProbeCurve("b", "c", 4, 1.0, [10, 40], [0.5, 1.0]),
    ]
    rows = [[1.0, None, None], [0.75, 1.0, None], [1.0, 1.0, 1.0]]
    panels = drawn(charts.success(success_curves(["a", "b", "c"], rows, 4, probes, 40), 3, 40))
    x = series(panels[0])[0].get_xdata().tolist()
    within = [np.log1p(10) / np.log1p(updates) for updates in (20, 40)]
    assert x == pytest.approx([1, 1 + within[0], 2, 2 + within[1], 3])
    marks = panels[-1].xaxis.get_ticklocs(minor=True).tolist()
    assert marks[1:] == pytest.approx([1 + within[0], 2 + within[1]])


def test_success_of_many_tasks_keeps_titles_and_rates_apart(tmp_path):
    names = [f"pick-up-the-thing-{i}" for i in range(20)]
    rows = [[1.0] * (i + 1) + [None] * (19 - i) for i in range(20)]
    titles = tuple(f"{i} pick" for i in range(1, 21))
    chart = charts.success(success_curves(names, rows, 25, [], 20), 20, 20)
    figure = Figure(figsize=(9, 3), layout="constrained")
    with matplotlib.rc_context(STYLE):
        chart.draw(figure, False)
        figure.savefig(tmp_path / "success.png")
        for axes in figure.axes:
            (title,) = [text for text in axes.findobj(Text) if text.get_text().startswith(titles)]
            assert title.get_window_extent().x1 < axes.get_window_extent().x1 + 1


def test_success_marks_updates_below_the_last_panel_only():
    *above, last = drawn(charts.success(curves(), 3, 20))
    marks = [axes.xaxis.get_ticklocs(minor=minor) for axes in above for minor in (False, True)]
    assert [len(found) for found in marks] == [0] * 4
    assert last.xaxis.get_ticklocs().tolist() == [0.5, 1.5, 2.5]
    assert len(last.xaxis.get_ticklocs(minor=True)) == 3


def test_success_begins_where_the_current_task_was_probed():
    learning = ProbeCurve("b", "b", 4, 1.0, [10, 20], [0.25, 1.0])
    found = success_curves(["a", "b"], [[1.0, None], [0.75, 1.0]], 4, [learning], 20)
    b = series(drawn(charts.success(found, 2, 20))[1])[-1].get_xydata().tolist()
    assert b == [[pytest.approx(1 + np.log1p(10) / np.log1p(20)), 25], [2, 100]]


def test_success_zooms_in_where_every_interval_is_high():
    high = success_curves(["a", "b"], [[1.0, None], [0.98, 1.0]], 50, [], 20)
    assert {axes.get_ylim()[0] for axes in drawn(charts.success(high, 2, 20))} == {60}


def test_recovery_marks_every_run_and_joins_none():
    returns = {"replay": [[0, 10], [None, 20]], "ewc": [[5], []]}
    (axes,) = drawn(charts.recovery(returns, ["a", "b", "c"], 100, dict.fromkeys(returns, 3)))
    lines = [line for line in axes.get_lines() if len(line.get_xdata())]
    marks = [
        (line.get_marker(), line.get_ydata()[0]) for line in lines if line.get_marker() != "None"
    ]
    assert sorted(marks) == [("^", 250.0), ("o", 0), ("o", 10), ("o", 20), ("s", 5)]
    assert all(len(set(line.get_xdata())) == 1 for line in lines if line.get_linestyle() == "-")
    medians = [segment[0][1] for bars in axes.collections for segment in bars.get_segments()]
    assert medians == [10, 250, 5]  # each of a run: no mean of two, and none with "not back"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["b", "c"]


def test_recovery_says_how_many_seeds_were_probed():
    returns = {"replay": [[0, 10], [20]], "ewc": [[5], [7]]}
    seeds = {"replay": 6, "ewc": 1}
    (axes,) = drawn(charts.recovery(returns, ["a", "b", "c"], 100, seeds))
    assert axes.get_legend_handles_labels()[1] == ["replay (2 of 6 seeds)", "ewc (1 seed)"]


def test_differences_draw_seeds_means_and_intervals():
    found = {
        ("hard", "rank-1 Fisher"): np.array([1.0, 3.0]),
        ("CW20", "rank-1 Fisher"): np.array([-2.0]),
    }
    (axes,) = drawn(charts.differences({"dip": found}, {"dip": "less"}))
    lines = [line.get_xydata().tolist() for line in axes.get_lines()]
    interval = [[pytest.approx(2 - 12.706, abs=1e-3), 1], [pytest.approx(2 + 12.706, abs=1e-3), 1]]
    assert lines[:3] == [[[1, 1], [3, 1]], [[2, 1]], interval]
    assert lines[3:5] == [[[-2, 3]], [[-2, 3]]]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["hard", "rank-1 Fisher", "CW20", "rank-1 Fisher"]
    assert axes.get_title() == "dip\n← better"


def looks(lines):
    return {(line.get_color(), line.get_marker()) for line in lines}


def test_a_dozen_methods_look_different():
    names = [f"method {i}" for i in range(12)]
    memory, _ = drawn(frontier({name: [Cost(0.5, 1.0, 2.0)] for name in names}))
    assert len(looks(memory.get_lines())) == 12
    (axes,) = drawn(charts.averages({name: [[1.0, 0.5]] for name in names}, ["a", "b"]))
    assert len(looks(axes.get_lines()) - {(c, "None") for c in COLORS}) == 12
    (axes,) = drawn(
        charts.recovery({name: [[3]] for name in names}, ["a", "b"], 20, dict.fromkeys(names, 1))
    )
    assert len({look for look in looks(axes.get_lines()) if look[1] != "None"}) == 12


@pytest.mark.parametrize(
    ("cost", "silent"),
    [
        (Cost(0.5, 1.0, None), [False, True]),
        (Cost(0.5, None, 2.0), [True, False]),
        (Cost(0.5, None, None), [True, True]),
    ],
)
def test_frontier_names_every_method_and_says_what_was_not_recorded(cost, silent):
    panels = drawn(frontier({"old": [cost]}))
    labels = [label for axes in panels for label in axes.get_legend_handles_labels()[1]]
    assert labels == ["old"]
    said = [[text.get_text() for text in axes.texts] for axes in panels]
    assert said == [["not recorded"] * none for none in silent]
    assert [not len(axes.get_xticks()) for axes in panels] == silent


def test_frontier_hides_no_mean_behind_another():
    same = [Cost(0.5, 1.0, 2.0)]
    for axes in drawn(frontier({"finetune": same, "l2": same})):
        means = [line for line in axes.get_lines() if line.get_alpha() is None]
        assert {line.get_markerfacecolor() for line in means} == {"none"}


def test_names_with_dollars_are_drawn_as_they_are(tmp_path):
    """As mathtext this one ends in a traceback."""
    name = "$x_{$"
    for i, chart in enumerate(
        (
            charts.success(success_curves([name], [[1.0]], 4, [], 20), 1, 20),
            charts.averages({name: [[1.0, 0.5]]}, [name, "b"]),
            charts.recovery({name: [[3]]}, [name, "b"], 20, {name: 1}),
            frontier({name: [Cost(0.5, 1.0, 2.0)]}),
            charts.differences({"dip": {(name, "rank 1"): np.array([1.0, 3.0])}}, {"dip": "less"}),
        )
    ):
        write_png(chart, tmp_path / f"{i}.png")
        assert name in svg(chart).wide
        assert "mathdefault" not in svg(chart).wide


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(1e-4, 1.0, ["10⁻³", "10⁻²", "10⁻¹"]), (2e-2, 6e-2, ["3·10⁻²", "4·10⁻²"])],
)
def test_a_loss_is_labelled_in_powers_of_ten(low, high, expected):
    updates = [LoggedUpdate(0, 10, low), LoggedUpdate(0, 20, high)]
    page = svg(losses(updates, [], 20)).wide
    assert all(f">{label}<" in page for label in expected)


def test_losses_of_a_run_that_went_on_begin_where_the_task_before_ended():
    """Two tasks of 20 updates, then one of 40; generators of 15 and of 25."""
    last = {0: (10, 20), 1: (10, 20), 2: (10, 40)}
    updates = [LoggedUpdate(task, at, 0.5) for task, found in last.items() for at in found]
    generator = [GeneratorUpdate(task, at, 0.5) for task, at in ((0, 15), (1, 10), (1, 25))]
    policy, second = drawn(losses(updates, generator, 40))
    assert policy.get_lines()[0].get_xdata().tolist() == [10, 20, 30, 40, 50, 80]
    assert second.get_lines()[0].get_xdata().tolist() == [15, 25, 40]
    begins = [[line.get_xdata()[0] for line in axes.get_lines()[1:]] for axes in (policy, second)]
    assert begins == [[20, 40], [15]]
