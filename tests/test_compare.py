"""Tables of several runs, from summaries whose numbers are known."""

import csv
import json

import imageio.v3 as iio
import pytest

from tools import compare as tool


def summary(method="replay", seed=0, success=0.9, **changes):
    recovery = [
        {"task": "a", "while_learning": "b", "target": 0.99, "updates": None, "censored_at": 100},
        {"task": "a", "while_learning": "b", "target": 0.9, "updates": 10 * (seed + 1), "censored_at": None},
        {"task": "a", "while_learning": "b", "target": 0.8, "updates": 0, "censored_at": None},
    ]
    value = {
        "method": method, "replay": "generator", "fisher": "none", "network": "mlp", "seed": seed,
        "updates_per_task": 100, "n_rollouts": 50, "tasks": ["a", "b"], "evaluation_seeds": "evaluation",
        "average_success": success, "backward_transfer": -0.1, "seconds": {"total": 120.0}, "recovery": recovery,
        "forgetting": {"just_learned_all": 0.05, "just_learned_without_last": 0.1, "max_without_last": 0.2},
    }  # fmt: skip
    return {**value, **changes}


@pytest.fixture
def write(tmp_path):
    def write(name, value):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "summary.json").write_text(value if isinstance(value, str) else json.dumps(value))
        return folder

    return write


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_tables_hold_the_numbers_of_the_runs(write, tmp_path, capsys):
    runs = [write(f"r{seed}", summary("replay", seed, 0.8 + 0.1 * seed)) for seed in (0, 1)]
    runs += [write(f"t{seed}", summary("trust_region", seed, 0.9 + 0.1 * seed, fisher="rank1")) for seed in (0, 1)]
    tool.compare(runs, tmp_path / "out")
    replay, region = table(tmp_path / "out" / "success.csv")
    assert replay["method"] == "replay generator"
    assert region["method"] == "trust_region generator rank1"
    assert replay["average_success"] == "85.0 (80.0 to 90.0)"
    assert (replay["just_learned_all"], replay["max_without_last"]) == ("5.0 (5.0 to 5.0)", "20.0 (20.0 to 20.0)")
    assert (region["seeds"], region["minutes"]) == ("2", "2.0")
    (paired,) = table(tmp_path / "out" / "paired.csv")
    assert paired["difference"] == "10.0 (10.0 to 10.0)"
    assert paired["probability of improvement"] == "0.88"  # of four pairs three are won and one is even
    recovery = table(tmp_path / "out" / "recovery.csv")
    assert [row["while b"] for row in recovery[:3]] == ["> 100, > 100", "10, 20", "0, 0"]
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "85.0 (80.0 to 90.0)" in text
    assert text in capsys.readouterr().out
    assert iio.imread(tmp_path / "out" / "recovery.png").shape[2] in (3, 4)


def test_a_task_never_learned_has_nothing_to_come_back_to():
    nothing = {"task": "a", "while_learning": "b", "target": 0.9, "updates": None, "censored_at": None}
    runs = {"replay": [summary(seed=0), summary(seed=1, recovery=[nothing])]}
    assert tool.recovery_curves(runs) == {"replay": [("b", [10])]}


def test_one_seed_has_no_interval_and_one_method_no_pair(write, tmp_path):
    tool.compare([write("only", summary())], tmp_path / "out")
    assert table(tmp_path / "out" / "success.csv")[0]["average_success"] == "90.0"
    assert not (tmp_path / "out" / "paired.csv").exists()
    tool.compare([write("unprobed", summary(recovery=[]))], tmp_path / "bare")
    assert not (tmp_path / "bare" / "recovery.png").exists()


def test_pairs_are_of_the_same_seeds(write, tmp_path):
    runs = [write("r", summary("replay", 3, 0.5)), write("f", summary("finetune", 3, 0.2, replay="none"))]
    runs.append(write("g", summary("finetune", 4, 0.9, replay="none")))
    tool.compare(runs, tmp_path / "out")
    (paired,) = table(tmp_path / "out" / "paired.csv")
    assert (paired["method"], paired["same seeds"], paired["difference"]) == ("finetune", "1", "-30.0")
    assert paired["probability of improvement"] == "0.50"


BAD = {
    "missing": (None, "no summary.json"),
    "half": ('{"method": ', "not a summary.json"),
    "other": ("{}", "has no 'method'"),
    "unfinished": (summary(average_success=None), "unfinished run; go on with python -m policy.train resume="),
    "list": ("[]", "has no 'method'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_runs_are_named_in_one_line(write, tmp_path, monkeypatch, capsys, name):
    content, message = BAD[name]
    path = tmp_path / name if content is None else write(name, content)
    monkeypatch.setattr("sys.argv", ["compare", str(path), "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        tool.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists()


def test_both_definitions_of_recovery_are_shown_where_they_were_recorded(write, tmp_path):
    older, newer = summary(seed=0), summary(seed=1)
    for entry, first in zip(newer["recovery"], (None, 4, 2), strict=True):
        entry["first_reached"] = first
    tool.compare([write("a", older), write("b", newer)], tmp_path / "out")
    assert [row["while b"] for row in table(tmp_path / "out" / "first_reached.csv")] == ["?, > 100", "?, 4", "?, 2"]
    assert "whatever came before or after (?" in (tmp_path / "out" / "comparison.md").read_text()
    tool.compare([tmp_path / "a"], tmp_path / "alone")
    assert not (tmp_path / "alone" / "first_reached.csv").exists()


def test_runs_of_different_settings_are_not_compared(write, tmp_path):
    runs = [write("a", summary()), write("b", summary(seed=1, updates_per_task=50))]
    with pytest.raises(ValueError, match="runs differ in updates_per_task: 100 and 50"):
        tool.compare(runs, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "then", "other"), [("precision", "float32", "bfloat16"), ("keep_moments", False, True)]
)
def test_a_summary_from_before_there_was_a_choice_had_the_default(write, name, then, other):
    optimizers = [{"warmup": 50}, {"warmup": 50, name: then}, {"warmup": 50, name: other}]
    runs = [summary(seed=i, options={"optimizer": options}) for i, options in enumerate(optimizers)]
    runs[1]["options"] |= {"method": {"name": "replay", "average": False}}
    runs[0]["options"] |= {"method": {"name": "replay"}}
    assert [run["seed"] for run in tool.group(runs[:2])["replay generator"]] == [0, 1]
    with pytest.raises(ValueError, match="runs differ in optimizer"):
        tool.group(runs)


def test_options_of_a_fisher_that_a_run_does_not_have_make_no_difference():
    settings = [{"name": "rank1", "samples": 8}, {"name": "diagonal", "samples": 4}]
    runs = [summary(seed=i, fisher="none", options={"fisher": options}) for i, options in enumerate(settings)]
    assert [len(found) for found in tool.group(runs).values()] == [2]
    held = [{**run, "fisher": "diagonal"} for run in runs]
    assert [len(found) for found in tool.group(held).values()] == [1, 1]


def test_methods_that_differ_in_an_option_are_two(write, tmp_path):
    settings = [{"method": {"strength": s}, "batch_size": 8} for s in (1.0, 2.0)]
    runs = [write(f"s{i}", summary("ewc", 0, 0.1 * i, options=options)) for i, options in enumerate(settings)]
    tool.compare(runs, tmp_path / "out")
    names = [row["method"] for row in table(tmp_path / "out" / "success.csv")]
    assert names == ["ewc generator method.strength=1.0", "ewc generator method.strength=2.0"]
    other = write("other", summary("ewc", 1, options={"method": {"strength": 1.0}, "batch_size": 9}))
    with pytest.raises(ValueError, match="runs differ in batch_size: 8 and 9"):
        tool.compare([*runs, other], tmp_path / "out")


def test_two_runs_of_one_seed_are_refused(write, tmp_path):
    with pytest.raises(ValueError, match="replay generator: two runs have one seed"):
        tool.compare([write("a", summary()), write("b", summary())], tmp_path / "out")


def test_an_unknown_reference_lists_the_choices(write, tmp_path):
    with pytest.raises(ValueError, match="reference=ewc: none of the runs; choose from replay generator"):
        tool.compare([write("a", summary())], tmp_path / "out", "ewc")
