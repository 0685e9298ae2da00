"""Tables of several runs, from summaries whose numbers are known."""

import csv

import imageio.v3 as iio
import pytest

from reconverge.errors import ReconvergeError
from reconverge.policy.reports.rows.cells import PERCENT, POINTS, mean_cell
from reconverge.policy.reports.rows.comparison import (
    final_success,
    runs_table,
    write_comparison,
)
from reconverge.policy.reports.rows.groups import find_reference, group
from reconverge.policy.reports.rows.recovery import first_task_returns
from reconverge.policy.runs.summary import Summary
from support.summaries import two_tasks, write_summary


def summary(method="replay", seed=0, success=0.9, **changes):
    """Back at 90 % of `a` after 10 updates with seed 0, 20 with seed 1."""
    value = two_tasks(method=method, seed=seed, fisher="none", average_success=success, **changes)
    if "recovery" not in changes:
        value["recovery"][1]["updates"] = 10 * (seed + 1)
    return value


def read(value):
    return Summary.from_json(value, "summary.json")


@pytest.fixture
def write(tmp_path):
    return lambda name, value: write_summary(tmp_path / name, value)


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_write_comparison_says_what_runs_of_one_setting_should_share(write, tmp_path):
    data = {"a": {"sha256": "1", "path": "/here"}}
    moved = {"a": {"sha256": "1", "path": "/there"}}
    other = {"a": {"sha256": "2", "path": "/here"}}
    changed = [{"task": 1, "update": 5, "options": {"batch_size": 8}, "command": ""}]

    first = write("first", summary(seed=0, demonstrations=data))

    def told(name, **changes):
        return write_comparison([first, write(name, summary(seed=1, **changes))], tmp_path / "out")

    assert "They differ in" not in told("moved", demonstrations=moved)
    assert "They differ in demonstrations:" in told("other", demonstrations=other)
    assert "They differ in" not in told("unknown", demonstrations={})
    assert "They differ in changes:" in told("changed", demonstrations=data, changes=changed)


def test_write_comparison_leaves_no_table_of_an_earlier_one(write, tmp_path):
    runs = [write(name, summary(name, success=0.8)) for name in ("replay", "finetune")]
    write_comparison(runs, tmp_path / "out")
    assert (tmp_path / "out" / "paired.csv").exists()
    alone = write("alone", summary("multitask"))
    write_comparison([alone], tmp_path / "out")
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["comparison.md", "frontier.png", "success.csv"]


def test_write_comparison_holds_the_numbers_of_the_runs(write, tmp_path):
    runs = [write(f"r{seed}", summary("replay", seed, 0.8 + 0.1 * seed)) for seed in (0, 1)]
    for seed in (0, 1):
        held = summary("trust_region", seed, 0.9 + 0.1 * seed) | {"fisher": "rank1"}
        runs.append(write(f"t{seed}", held))
    text = write_comparison(runs, tmp_path / "out")
    replay, region = table(tmp_path / "out" / "success.csv")
    assert replay["method"] == "replay"
    assert region["method"] == "trust region, rank-1 Fisher"
    assert replay["average success (%)"] == "85.0 (21.5 to 100.0)"
    assert replay["forgetting (points)"] == "5.0 (all alike)"
    assert replay["forgetting from the best (points)"] == "20.0 (all alike)"
    assert (region["seeds"], region["minutes"]) == ("2", "1.5")
    (paired,) = table(tmp_path / "out" / "paired.csv")
    assert paired["difference (points)"] == "10.0 (all alike)"
    # Of four pairs three are won and one is even.
    assert paired["probability of improvement"] == "0.88"
    recovery = table(tmp_path / "out" / "recovery.csv")
    assert [row["while b"] for row in recovery[:3]] == ["> 100, > 100", "10, 20", "0, 0"]
    assert "| replay | 2 | 85.0 (21.5 to 100.0) |" in text
    assert (tmp_path / "out" / "comparison.md").read_text() == text
    assert iio.imread(tmp_path / "out" / "recovery.png").std() > 0
    assert iio.imread(tmp_path / "out" / "frontier.png").std() > 0


def test_write_comparison_measures_forward_transfer_against_single(write, tmp_path):
    """Areas 0.75 and 0.5, alone 0.5 and 0.5: (0.25 / 0.5 + 0) / 2."""
    alone = summary("single", replay="none")
    alone["learning"][0]["success"] = [0.0, 1.0]
    write_comparison([write("r", summary()), write("s", alone)], tmp_path / "out")
    replay, single = table(tmp_path / "out" / "transfer.csv")
    assert (replay["forward transfer (%)"], single["forward transfer (%)"]) == ("25.0", "")
    assert (replay["FWT (%)"], replay["NBT (points)"], replay["AUC (%)"]) == (
        "62.5",
        "10.0",  # of the success matrix; the file has the mean without the last task
        "63.7",
    )
    assert replay["lowest probe (% of its best)"] == "10.0"


def test_write_comparison_has_no_forward_transfer_without_like_probes(write, tmp_path):
    elsewhere = [curve | {"updates": [50, 200]} for curve in summary()["learning"]]
    for i, learning in enumerate(([], elsewhere)):
        alone = summary("single", replay="none", learning=learning)
        runs = [write(f"{name}{i}", run) for name, run in (("r", summary()), ("s", alone))]
        write_comparison(runs, tmp_path / "out")
        assert "forward transfer (%)" not in table(tmp_path / "out" / "transfer.csv")[0]


def test_first_task_returns_leaves_out_a_task_never_learned():
    nothing = two_tasks()["recovery"][1] | {"updates": None, "censored_at": None}
    runs = [read(summary(seed=0)), read(summary(seed=1, recovery=[nothing]))]
    assert first_task_returns({"replay": runs}) == {"replay": [[10]]}
    assert first_task_returns({"replay": runs[1:]}) == {}


def test_write_comparison_of_one_seed_has_no_interval_and_of_one_method_no_pair(write, tmp_path):
    write_comparison([write("only", summary())], tmp_path / "out")
    assert table(tmp_path / "out" / "success.csv")[0]["average success (%)"] == "90.0"
    assert not (tmp_path / "out" / "paired.csv").exists()
    bare = summary(recovery=[], libero=None, lowest_share=None)
    write_comparison([write("unprobed", bare)], tmp_path / "bare")
    found = {path.name for path in (tmp_path / "bare").iterdir()}
    assert found == {"comparison.md", "success.csv", "transfer.csv", "frontier.png"}


def test_write_comparison_pairs_the_same_seeds(write, tmp_path):
    runs = [
        write("r", summary("replay", 3, 0.5)),
        write("f", summary("finetune", 3, 0.2, replay="none")),
        write("g", summary("finetune", 4, 0.9, replay="none")),
    ]
    write_comparison(runs, tmp_path / "out")
    (paired,) = table(tmp_path / "out" / "paired.csv")
    assert list(paired.values()) == ["finetune", "1", "-30.0", "0.50"]


def test_write_comparison_shows_recovery_by_both_definitions(write, tmp_path):
    older, newer = summary(seed=0, probes=[]), summary(seed=1)
    for entry, first in zip(newer["recovery"], (None, 4, 2), strict=True):
        entry["first_reached"] = first
    text = write_comparison([write("a", older), write("b", newer)], tmp_path / "out")
    found = [row["while b"] for row in table(tmp_path / "out" / "first_reached.csv")]
    assert found == ["?, > 100", "?, 4", "?, 2"]
    assert "whatever came before or after. ?: not probed, or not recorded" in text


def test_write_comparison_says_which_seeds_were_not_probed(write, tmp_path):
    unprobed = summary(seed=0, recovery=[], probes=[], lowest_share=None)
    write_comparison([write("a", unprobed), write("b", summary(seed=1))], tmp_path / "out")
    found = [row["while b"] for row in table(tmp_path / "out" / "recovery.csv")]
    assert found[:3] == ["?, > 100", "?, 20", "?, 0"]
    (row,) = table(tmp_path / "out" / "transfer.csv")
    assert row["lowest probe (% of its best)"] == "10.0, 1 of 2 seeds"


def test_group_refuses_runs_of_different_settings():
    with pytest.raises(ReconvergeError, match="runs differ in updates_per_task: 200 and 50"):
        group([read(summary()), read(summary(seed=1, updates_per_task=50))])
    precisions = [
        read(summary(seed=i, options={"optimizer": {"precision": precision}}))
        for i, precision in enumerate(("float32", "bfloat16"))
    ]
    with pytest.raises(ReconvergeError, match="runs differ in optimizer"):
        group(precisions)


def test_group_ignores_options_of_a_fisher_that_a_run_does_not_have():
    settings = [{"name": "rank1", "samples": 8}, {"name": "diagonal", "samples": 4}]
    runs = [summary(seed=i, options={"fisher": options}) for i, options in enumerate(settings)]
    assert [len(found) for found in group([read(run) for run in runs]).values()] == [2]
    held = [read(run | {"fisher": "diagonal"}) for run in runs]
    assert [len(found) for found in group(held).values()] == [1, 1]


def test_group_names_methods_by_the_options_in_which_they_differ():
    runs = [
        summary("trust_region", options={"method": {"strength": strength, "centre": centre}})
        for strength, centre in ((1.0, "before_task"), (2.0, "each_optimum"))
    ]
    assert list(group([read(run) for run in runs])) == [
        "trust region, strength 1.0, centred before the task",
        "trust region, strength 2.0, centred on each optimum",
    ]


def test_group_tells_replay_sources_of_one_method_apart():
    runs = [summary(replay=source, seed=0) for source in ("generator", "rollout")]
    runs += [summary("finetune", replay="none"), summary(replay="none")]
    assert list(group([read(run) for run in runs])) == [
        "replay, replay from generator",
        "replay, replay from rollout",
        "finetune",
        "replay, no replay",
    ]


def test_group_tells_runs_apart_that_were_told_no_boundaries():
    runs = [summary(options=options) for options in ({}, {"boundaries": "detected"})]
    assert list(group([read(run) for run in runs])) == ["replay", "replay, boundaries detected"]


def test_group_refuses_two_runs_of_one_seed():
    with pytest.raises(ReconvergeError, match=r"replay: two runs have one seed \(\[0, 0\]\)"):
        group([read(summary()), read(summary())])


def test_find_reference_is_replay_and_lists_the_choices():
    groups = group([read(summary("finetune")), read(summary("replay"))])
    assert find_reference(groups) == "replay"
    assert find_reference(groups, "finetune") == "finetune"
    with pytest.raises(ReconvergeError, match="unknown reference 'ewc': choose one of finetune"):
        find_reference(groups, "ewc")


def test_intervals_of_shares_stay_within_what_there_can_be():
    few, points = [0.02, 0.10], [-0.9, 0.9]
    assert mean_cell(few, span=PERCENT).text == "6.0 (0.0 to 56.8)"
    assert mean_cell(points).text == "0.0 (-1143.6 to 1143.6)"
    assert mean_cell(points, span=POINTS).text == "0.0 (-100.0 to 100.0)"
    assert mean_cell([0.4, 1.2], span=PERCENT).text == "80.0 (0.0 to 120.0)"  # 1.2: was seen


def test_seeds_that_are_all_alike_have_no_interval():
    assert mean_cell([0.1 + 0.2, 0.3]).text == "30.0 (all alike)"
    assert mean_cell([0.3, 0.302]).text == "30.1 (28.8 to 31.4)"


def test_intervals_of_every_measure_are_cut(write, tmp_path):
    runs = []
    for seed, lost in ((0, 0.1), (1, 0.9)):
        value = summary(seed=seed, success=1 - lost / 2, backward_transfer=-lost)
        value["success"][1][0] = 1 - lost
        value["forgetting"] = dict.fromkeys(value["forgetting"], lost)
        value["lowest_share"]["share"] = lost
        runs.append(write(f"r{seed}", value))
    write_comparison(runs, tmp_path / "out")
    (success,) = table(tmp_path / "out" / "success.csv")
    assert success["forgetting (points)"] == "50.0 (-100.0 to 100.0)"
    assert success["forgetting from the best (points)"] == "50.0 (0.0 to 100.0)"
    assert success["backward transfer (points)"] == "-50.0 (-100.0 to 100.0)"
    (transfer,) = table(tmp_path / "out" / "transfer.csv")
    assert transfer["lowest probe (% of its best)"] == "50.0 (0.0 to 100.0)"
    assert transfer["NBT (points)"] == "25.0 (-100.0 to 100.0)"


def test_write_comparison_says_what_computed_the_runs_and_what_probes_are_of(write, tmp_path):
    def told(name, precision, device, episodes):
        value = summary(hardware={"precision": precision, "device": device})
        value["probes"][0]["n_rollouts"] = episodes
        first = write(name, value)
        value = summary(seed=1, hardware={"precision": "float32", "device": "cpu"})
        text = write_comparison([first, write(f"{name}1", value)], tmp_path / "out")
        return text.split("They differ in ")[1:], text

    assert told("like", "float32", "cpu", 10)[0] == []
    assert told("old", None, None, 10)[0] == []
    differing, text = told("unlike", "bfloat16", "cuda", 5)
    assert [line.split(":")[0] for line in differing] == [
        "hardware.precision",
        "hardware.device",
        "probe episodes",
    ]
    assert "the lowest probe of an earlier task, of 5 or 10 probe episodes." in text
    assert "One number a seed. Rates are of 5 or 10 probe episodes." in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "1 run of a, b; 50 rollouts a task.\n"),
        (
            {"evaluation_seeds": "selection"},
            "; 50 rollouts a task (selection episodes: settings were chosen on them).\n",
        ),
        ({"judge": {"test_accuracy": 0.9}}, "; 50 generated pictures a task.\n"),
    ],
)
def test_write_comparison_says_on_what_runs_were_evaluated(write, tmp_path, changes, said):
    text = write_comparison([write("run", summary(**changes))], tmp_path / "out")
    assert said in text


def test_tasks_learned_at_once_have_no_measure_of_a_sequence(write, tmp_path):
    runs = [write("m", summary("multitask", replay="none")), write("r", summary())]
    write_comparison(runs, tmp_path / "out")
    together, replay = table(tmp_path / "out" / "success.csv")
    assert (together["average success (%)"], together["forgetting (points)"]) == ("90.0", "")
    assert replay["forgetting (points)"] == "5.0"
    together, replay = table(tmp_path / "out" / "transfer.csv")
    assert (together["NBT (points)"], replay["NBT (points)"]) == ("", "10.0")
    assert {row["method"] for row in table(tmp_path / "out" / "recovery.csv")} == {"replay"}
    write_comparison(runs[:1], tmp_path / "out")
    (alone,) = table(tmp_path / "out" / "success.csv")
    assert not [name for name in alone if "forgetting" in name or "transfer" in name]
    rows = runs_table([read(summary("multitask")), read(summary())], ["m", "r"]).rows
    assert [row[4].text for row in rows] == ["", "5.0"]


def test_final_success_is_as_fine_as_the_rollouts_tell():
    fine = read(summary(n_rollouts=200, success=0.9975))
    fine.success[1][0] = 199 / 200
    (row,) = final_success([fine], ["fine"]).rows
    assert [cell.text for cell in row] == ["fine", "99.5", "100.0"]
