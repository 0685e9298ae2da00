"""The stress table, from summaries whose numbers are known."""

import csv
import json
import sys

import imageio.v3 as iio
import pytest

from tools import stress as tool


def summary(seed, fisher, success=0.9, low=0.5, **changes):
    curve = {"task": "a", "while_learning": "b", "n_rollouts": 10, "just_learned": 1.0}
    value = {
        "method": "trust_region" if fisher != "none" else "replay", "fisher": fisher, "replay": "generator",
        "seed": seed, "tasks": ["a", "b"], "updates_per_task": 200, "n_rollouts": 10, "evaluation_seeds": "selection",
        "average_success": success, "backward_transfer": 0.0, "seconds": {"total": 1.0}, "recovery": [],
        "forgetting": {"just_learned_all": 0.05}, "success": [[1.0, None], [0.8, 1.0]],
        "probes": [{**curve, "updates": [2, 50, 200], "success": [0.9, low, 0.1]}],
    }  # fmt: skip
    return {**value, **changes}


@pytest.fixture
def write(tmp_path):
    def write(setting, name, value):
        folder = tmp_path / setting / name
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps(value))
        return tmp_path / setting

    return write


def test_differences_are_paired_by_seed(write, tmp_path, capsys):
    for seed in (0, 1):
        write("hard", f"r{seed}", summary(seed, "none", 0.7 + 0.1 * seed, low=0.5))
        folder = write("hard", f"t{seed}", summary(seed, "rank1", 0.8 + 0.1 * seed, low=0.7))
    write("hard", "t2", summary(2, "rank1", 0.1))  # no partner
    tool.report(tool.read_settings(folder), tmp_path / "out")
    with (tmp_path / "out" / "stress.csv").open() as file:
        rows = {row["measure"]: row for row in csv.DictReader(file)}
    assert rows["average success"]["seeds"] == "2"
    assert rows["average success"]["replay"] == "75.0 (70.0 to 80.0)"
    assert rows["average success"]["difference"] == "10.0 (10.0 to 10.0)"
    assert rows["dip"]["replay"] == "50.0 (50.0 to 50.0)"  # the probe at 200 updates is no longer early
    assert rows["dip"]["difference"] == "-20.0 (-20.0 to -20.0)"
    assert rows["loss while learning"]["replay"] == "50.0 (50.0 to 50.0)"
    assert rows["just learned"]["trust region"] == "100.0 (100.0 to 100.0)"
    assert "10.0 (10.0 to 10.0)" in capsys.readouterr().out
    assert iio.imread(tmp_path / "out" / "stress.png").std() > 0


def test_several_penalties_are_held_against_the_same_runs(write, tmp_path):
    write("hard", "r", summary(0, "none", 0.7))
    options = {"method": {"strength": 1e4}, "fisher": {"targets": "policy"}}
    write("hard", "a", summary(0, "rank1", 0.6))
    write("hard", "b", summary(0, "diagonal", 0.9, options=options))
    folder = write("hard", "c", summary(0, "diagonal", 0.8, options={**options, "method": {"strength": 1e6}}))
    found = {s.penalty: float(s.differences(tool.average_success)[0]) for s in tool.read_settings(folder)}
    assert found == pytest.approx(
        {
            "trust_region generator rank1": -0.1,
            "trust_region generator diagonal method.strength=10000.0": 0.2,
            "trust_region generator diagonal method.strength=1000000.0": 0.1,
        }
    )


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([summary(1, "rank1")], "no seed has a run with a Fisher penalty and one without"),
        ([summary(0, "rank1"), summary(0, "rank1")], "two runs have one seed"),
        ([summary(0, "rank1", n_rollouts=20)], "differ in n_rollouts"),
        ([summary(0, "rank1", replay="none")], "differ in replay"),
        ([summary(0, "rank1"), summary(0, "none", method="other")], "both without a Fisher penalty"),
        ([summary(0, "rank1", probes=[])], "holds no probes"),
    ],
)
def test_what_is_no_pair_is_refused(write, monkeypatch, capsys, others, said):
    folder = write("hard", "r", summary(0, "none"))
    for i, other in enumerate(others):
        write("hard", f"t{i}", other)
    monkeypatch.setattr(sys, "argv", ["stress", str(folder)])
    with pytest.raises(SystemExit) as exit:
        tool.main()
    assert exit.value.code == 2
    assert said in capsys.readouterr().err
