"""Presets of a user's own: yaml files of experiments, and of groups of options."""

import re
from pathlib import Path

import pytest

from reconverge.policy import train
from reconverge.policy.runs.folder import record_options
from support import ROOT
from support.tiny_run import call, make_options

GLOBAL = "# @package _global_\n"
CONF = "--config-dir=conf"


@pytest.fixture
def preset(tmp_path, monkeypatch):
    """Writes a preset below `conf/` of the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        file = tmp_path / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


@pytest.fixture
def fails(monkeypatch, capsys):
    """Returns the one line that `reconverge train` says of what it must refuse."""

    def call_and_read(*arguments):
        assert call(train.main, arguments, monkeypatch) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    return call_and_read


@pytest.fixture
def composed(monkeypatch):
    """Returns the options that the run's function got, instead of runs."""
    found = []
    monkeypatch.setattr(train, "execute", lambda options, *_: found.append(options))

    def compose(*arguments):
        assert call(train.main, arguments, monkeypatch) == 0
        return found.pop()

    return compose


def test_paths_of_a_preset_are_expanded(preset, composed, monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    for path, meant in (("~/demos", str(Path.home() / "demos")), ("$DATA/x", "/data/x")):
        preset("experiment/mine", f"{GLOBAL}demonstrations: {{path: {path}}}\n")
        options = composed(CONF, "experiment=mine")
        assert options.demonstrations.path == meant


@pytest.mark.parametrize(
    "flags",
    [
        ["--config-dir", "conf"],
        ["-cd=conf"],
        ["hydra.searchpath=[file://other]", "-cd", "conf"],
        ["hydra.searchpath=[file://conf]"],
    ],
)
def test_presets_of_a_folder_are_found(preset, composed, flags):
    preset("experiment/mine", f"{GLOBAL}defaults: [{{override /method: firm}}]\nseed: 7\n")
    preset("method/firm", "defaults: [trust_region]\nstrength: 5\n")
    preset("../other/network/narrow", "defaults: [mlp]\nwidth: 8\n")
    options = composed(*flags, "experiment=mine", "batch_size=9")
    assert (options.seed, options.batch_size, options.method.strength) == (7, 9, 5)
    if "hydra" in flags[0] and len(flags) > 1:
        assert composed(*flags, "network=narrow").network.width == 8


@pytest.mark.parametrize("typed", ["{} --cfg job {}", "--cfg job {} {}", "{} {} --cfg job"])
def test_a_folder_of_presets_is_taken_wherever_it_is_typed(preset, monkeypatch, capsys, typed):
    preset("experiment/mine", f"{GLOBAL}seed: 77\n")
    for both in (("experiment=mine", CONF), (CONF, "experiment=mine")):
        assert call(train.main, typed.format(*both).split(), monkeypatch) == 0
        assert "\nseed: 77\n" in capsys.readouterr().out


def test_a_preset_of_a_name_that_the_package_has_is_refused(preset, fails):
    preset("experiment/smoke", f"{GLOBAL}seed: 77\n")
    said = "conf/experiment/smoke.yaml: the package has a preset of that name; rename yours"
    assert fails(CONF, "experiment=smoke").endswith(said)


def test_a_preset_that_is_no_text_is_one_line(preset, fails, tmp_path, monkeypatch, capsys):
    preset("experiment/mine", GLOBAL)
    file = tmp_path / "conf/experiment/mine.yaml"
    for text in (f"{GLOBAL}name: caf\xe9\n".encode("latin-1"), f"{GLOBAL}name: \x07\n".encode()):
        file.write_bytes(text)
        assert "a preset is no text" in fails(CONF, "experiment=mine")
        assert call(train.main, [CONF, "--help"], monkeypatch) == 0
        assert "  mine\n" in capsys.readouterr().out


def test_a_run_is_resumed_beside_presets_of_a_folder(preset, composed, tmp_path):
    preset("experiment/mine", GLOBAL)
    record_options(make_options(), tmp_path / "run")
    assert composed("resume=run", CONF).resume == "run"


def test_help_lists_presets_of_a_folder(preset, monkeypatch, capsys):
    preset("experiment/mine", f"{GLOBAL}seed: 7\n")
    preset("method/firm", "defaults: [trust_region]\nstrength: 5\n")
    assert call(train.main, [CONF, "--help"], monkeypatch) == 0
    out = capsys.readouterr().out
    assert f"\n  mine\n    {GLOBAL}    seed: 7\n" in out
    assert "\n  firm\n    defaults: [trust_region]\n" in out
    assert "\n  smoke\n" in out


@pytest.mark.parametrize("flags", [["--config-dir=nowhere"], ["-cd", "nowhere"], ["-cd"]])
def test_a_folder_of_presets_that_is_not_there_is_refused(fails, tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    line = fails(*flags)
    assert "no such folder; give one that holds experiment/<name>.yaml" in line
    assert line.startswith(f"{flags[0].partition('=')[0]}=")


def test_the_preset_of_the_documentation_is_taken(preset, composed):
    page = (ROOT / "docs" / "commands.md").read_text()
    preset("experiment/mine", re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
    options = composed("--config-dir", "conf", "experiment=mine")
    assert (options.method.name, options.updates_per_task) == ("ewc", 500)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("env: [lift\nseed: 3\n", "line 2"),
        ("env:\n\t- lift\n", "line 2"),
        ("a: 1\na: 2\n", "line 2"),
    ],
)
def test_a_preset_that_is_no_yaml_gives_its_line(preset, fails, text, said):
    for group in ("experiment", "method"):
        preset(f"{group}/broken", text)
        line = fails(CONF, f"{group}=broken")
        assert f"conf/{group}/broken.yaml: {said}: is no yaml (" in line


def test_an_experiment_of_a_folder_that_sets_what_a_choice_lacks_gives_one_line(preset, fails):
    preset("experiment/mine", f"{GLOBAL}updates_per_task: 7\nreplay: {{batch_size: 64}}\n")
    line = fails(CONF, "experiment=mine", "replay=none")
    assert line.startswith(
        "experiment=mine sets replay.batch_size, which replay=none does not have"
    )
    assert line.endswith("give updates_per_task=7")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "updates_per_tsk: 60",
            "unknown option 'updates_per_tsk': did you mean 'updates_per_task'?",
        ),
        ("optimizer: {learning_rat: 1}", "unknown option 'optimizer.learning_rat': did you mean"),
        ("updates_per_task: often", "updates_per_task=often: must be a whole number, such as"),
        ("env: lift,can", "env=lift,can: must be a list; give env: [lift, can]"),
        ("env: lift", "env=lift: must be a list; give env: [lift]"),
        ("seed: {a: 1}", "seed={'a': 1}: must be a whole number, such as seed=0"),
        ("- lift", "must hold options, as name: value"),
        ("seed: null", "seed=null: must be a whole number, such as seed=0"),
        ("evaluation: 5", "evaluation=5: must be a group of options (n_rollouts,"),
        (
            "method: {strenght: 5}",
            "unknown option 'method.strenght': did you mean 'method.strength'?",
        ),
        ("network: {width: 1e2}", "network.width=100.0: must be a whole number, such as"),
        (
            "method: {momentum: 1}",
            "method=trust_region has no option 'momentum'; method=vr_mcl has",
        ),
        (
            "defaults: [{override /method: finetune}]\nmethod: {momentum: 1}",
            "method=finetune has no option 'momentum'; method=vr_mcl has",
        ),
    ],
)
def test_a_mistake_in_an_experiment_is_told_as_one_that_is_typed(preset, fails, text, said):
    preset("experiment/mine", f"{GLOBAL}{text}\n")
    assert fails(CONF, "experiment=mine").startswith(f"experiment=mine: {said}")


def test_an_experiment_without_its_first_line_is_told_of_it(preset, fails):
    preset("experiment/mine", "seed: 7\n")
    said = "experiment=mine: begin its file with '# @package _global_'"
    assert fails(CONF, "experiment=mine") == said


def test_a_mistyped_hyperparameter_beside_a_typed_choice_is_told_as_such(preset, fails):
    preset("experiment/mine", f"{GLOBAL}method: {{strenght: 5}}\n")
    assert "did you mean 'method.strength'?" in fails(CONF, "experiment=mine", "method=ewc")


@pytest.mark.parametrize(
    ("text", "row"),
    [("name: ewc\nstrength: 5.0\n", "ewc"), ("_target_: my.Method\n", "trust_region")],
)
def test_a_preset_of_a_group_that_is_based_on_no_row_is_refused(preset, fails, text, row):
    preset("method/mine", text)
    preset("experiment/mine", f"{GLOBAL}defaults: [{{override /method: mine}}]\n")
    for argument in ("method=mine", "experiment=mine"):
        line = fails(CONF, argument)
        assert line.startswith("method=mine: has the options of no method; begin its file with ")
        assert f"defaults: [{row}], or another of finetune, " in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "defaults: [trust_region]\nstrenght: 5",
            "unknown option 'method.strenght': did you mean ",
        ),
        ("defaults: [trust_region]\nstrength: many", "method.strength=many: must be a number or"),
        ("defaults: [ewc]\nmomentum: 1", "method=ewc has no option 'momentum'; method=vr_mcl has"),
        ("defaults: [trust_regoin]", "unknown method 'trust_regoin': choose one of finetune, "),
    ],
)
def test_a_mistake_in_a_preset_of_a_group_is_told_as_one_that_is_typed(preset, fails, text, said):
    preset("method/mine", f"{text}\n")
    assert fails(CONF, "method=mine").startswith(f"method=mine: {said}")


@pytest.mark.parametrize(
    "text",
    [
        "defaults: [{method: finetune}]",
        "defaults: [{/method: finetune}]",
        "defaults: [{override method: finetune}]",
        "defaults: {override /method: finetune}",
        "method: finetune",
    ],
)
def test_an_experiment_is_told_how_it_chooses_a_group(preset, fails, text):
    preset("experiment/mine", f"{GLOBAL}{text}\n")
    line = fails(CONF, "experiment=mine", "seed=3")
    wanted = "defaults: [{override /method: finetune}]"
    assert line == f"experiment=mine: write its choice of method as {wanted}"


def test_an_experiment_with_an_unknown_choice_is_named(preset, fails):
    preset("experiment/mine", f"{GLOBAL}defaults: [{{override /method: finetun}}]\n")
    line = fails(CONF, "experiment=mine")
    assert line.startswith("experiment=mine: unknown method 'finetun': choose one of ")
    assert line.endswith("did you mean 'finetune'?")


@pytest.mark.parametrize("value", ["", " ewc", " [override /method: 3]"])
def test_defaults_that_are_no_list_of_choices_are_refused(preset, fails, value):
    preset("experiment/mine", f"{GLOBAL}defaults:{value}\nseed: 7\n")
    line = fails(CONF, "experiment=mine")
    assert line.startswith("experiment=mine: ")
    assert line.endswith("write, say, defaults: [{override /method: ewc}]")
