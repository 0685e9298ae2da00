"""The stress table, from summaries whose numbers are known."""

import csv

import imageio.v3 as iio
import pytest

from reconverge.errors import ReconvergeError
from reconverge.policy.reports.rows.stress_rows import MEASURES, read_settings, write_stress
from support.summaries import two_tasks, write_summary


def summary(seed, fisher, success=0.9, low=0.5, **changes):
    """Probes of 90 %, `low` and 10 % after 2, 50 and 200 updates."""
    method = "trust_region" if fisher != "none" else "replay"
    value = two_tasks(method=method, seed=seed, fisher=fisher, average_success=success)
    value["probes"][0]["success"][1] = low
    return value | changes


@pytest.fixture
def write(tmp_path):
    def write(setting, name, value):
        return write_summary(tmp_path / setting / name, value).parent

    return write


def test_write_stress_pairs_by_seed(write, tmp_path):
    for seed in (0, 1):
        write("few_updates", f"r{seed}", summary(seed, "none", 0.7 + 0.1 * seed, low=0.5))
        held = summary(seed, "rank1", 0.8 + 0.1 * seed, low=0.7)
        folder = write("few_updates", f"t{seed}", held)
    write("few_updates", "t2", summary(2, "rank1", 0.1))  # no partner
    text = write_stress([folder], tmp_path / "out")
    with (tmp_path / "out" / "stress.csv").open() as file:
        rows = {row["measure"]: row for row in csv.DictReader(file)}
    success = rows["average success (%)"]
    assert [success[name] for name in ("setting", "penalty", "seeds")] == [
        "few updates",
        "rank-1 Fisher",
        "2",
    ]
    assert success["without the penalty"] == "75.0 (11.5 to 100.0)"
    assert success["difference (points)"] == "10.0 (all alike)"
    # The probe at 200 updates is no longer early.
    assert rows["dip (points)"]["without the penalty"] == "50.0 (all alike)"
    assert rows["dip (points)"]["difference (points)"] == "-20.0 (all alike)"
    assert rows["loss while learning (points)"]["without the penalty"] == "50.0 (all alike)"
    assert rows["just learned (%)"]["with the penalty"] == "100.0 (all alike)"
    assert "| 75.0 (11.5 to 100.0) |" in text
    assert (tmp_path / "out" / "stress.md").read_text() == text
    assert iio.imread(tmp_path / "out" / "stress.png").std() > 0


def test_write_stress_takes_a_folder_with_a_dollar(write, tmp_path):
    """matplotlib would read mathematics."""
    for fisher in ("none", "rank1"):
        folder = write("$x_{y$", fisher, summary(0, fisher))
    write_stress([folder], tmp_path / "out")
    assert iio.imread(tmp_path / "out" / "stress.png").std() > 0


def test_read_settings_holds_several_penalties_against_the_same_runs(write):
    write("hard", "r", summary(0, "none", 0.7))
    options = {"batch_size": 8, "method": {"strength": 1e4}, "fisher": {"targets": "policy"}}
    write("hard", "a", summary(0, "rank1", 0.6))
    write("hard", "b", summary(0, "diagonal", 0.9, options=options))
    stiff = {**options, "method": {"strength": 1e6}}
    folder = write("hard", "c", summary(0, "diagonal", 0.8, options=stiff))
    settings = read_settings(folder)
    measure = MEASURES["average success"].of
    assert {s.penalty: float(s.differences(measure)[0]) for s in settings} == pytest.approx(
        {
            "rank-1 Fisher": -0.1,
            "diagonal Fisher, strength 10000.0": 0.2,
            "diagonal Fisher, strength 1000000.0": 0.1,
        }
    )


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([summary(1, "rank1")], "no seed has a run with a Fisher penalty and one without"),
        ([summary(0, "rank1"), summary(0, "rank1")], "two runs have one seed"),
        ([summary(0, "rank1", n_rollouts=20)], "differ in n_rollouts"),
        ([summary(0, "rank1", replay="none")], "differ in replay"),
        (
            [summary(0, "rank1"), summary(0, "none", method="other")],
            "both without a Fisher penalty",
        ),
        ([summary(0, "rank1", probes=[])], "holds no probes"),
    ],
)
def test_read_settings_refuses_what_is_no_pair(write, others, said):
    folder = write("hard", "r", summary(0, "none"))
    for i, other in enumerate(others):
        write("hard", f"t{i}", other)
    with pytest.raises(ReconvergeError, match=said):
        read_settings(folder)


def test_differences_are_of_the_probes_that_both_runs_have(write):
    """The penalty alone has a second task probed, a later probe, and one of other episodes."""
    held = summary(0, "rank1")
    (curve,) = held["probes"]
    held["probes"] = [
        {**curve, "updates": [2, 20, 50], "success": [0.8, 0.0, 0.4]},
        {**curve, "task": "b", "while_learning": "b", "success": [0.0, 0.0, 0.0]},
        {**curve, "task": "b", "while_learning": "a", "n_rollouts": 5},
    ]
    bare = summary(0, "none")
    bare["probes"].append(
        {**curve, "task": "b", "while_learning": "a", "updates": [2, 50, 200], "success": [0, 0, 0]}
    )
    write("hard", "r", bare)
    (setting,) = read_settings(write("hard", "t", held))
    dip, loss = (MEASURES[name].of for name in ("dip", "loss while learning"))
    assert setting.differences(dip) == pytest.approx([0.6 - 0.5])
    assert setting.differences(loss) == pytest.approx([0.4 - 0.3])


def test_read_settings_refuses_a_pair_without_a_probe_in_common(write):
    held = summary(0, "rank1")
    held["probes"][0]["updates"] = [3, 51, 201]
    write("hard", "r", summary(0, "none"))
    with pytest.raises(ReconvergeError, match=r"hard: seed 0: no probe of the run with rank-1"):
        read_settings(write("hard", "t", held))


def test_intervals_stay_within_what_there_can_be(write, tmp_path):
    for seed, low in ((0, 0.1), (1, 0.5)):
        write("hard", f"r{seed}", summary(seed, "none", low=low))
        folder = write("hard", f"t{seed}", summary(seed, "rank1", low=0.6 - low))
    write_stress([folder], tmp_path / "out")
    with (tmp_path / "out" / "stress.csv").open() as file:
        dip = {row["measure"]: row for row in csv.DictReader(file)}["dip (points)"]
    assert dip["without the penalty"] == "70.0 (-100.0 to 100.0)"
    assert dip["difference (points)"] == "0.0 (-200.0 to 200.0)"
