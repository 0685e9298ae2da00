"""A run's config.yaml: written, read back, and what is refused."""

import json
from dataclasses import asdict, fields, replace

import pytest

from reconverge.errors import ReconvergeError
from reconverge.policy.continual.methods.ewc import EwcOptions
from reconverge.policy.continual.methods.trust_region import TrustRegionOptions
from reconverge.policy.continual.optimization import OptimizerOptions
from reconverge.policy.model.diffusion import DiffusionOptions
from reconverge.policy.model.networks.unet1d import UNet1dOptions
from reconverge.policy.runs.configuration import (
    GROUPS,
    REPLAYS,
    DemonstrationOptions,
    EvaluationOptions,
    GeneratorReplayOptions,
    TrainOptions,
    as_yaml,
    check_train_options,
    deciding,
    from_yaml,
    task_labels,
)
from support.tiny_run import make_options

CHOICES = [(group, name) for group, table in GROUPS.items() for name in table]


def written(folder, options):
    path = folder / "config.yaml"
    path.write_text(as_yaml(options))
    return path


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_from_yaml_reads_what_as_yaml_wrote(tmp_path, group, name):
    options = make_options(**{group: GROUPS[group][name]()})
    assert getattr(options, group).name == name
    assert from_yaml(written(tmp_path, options)) == options


@pytest.mark.parametrize(
    "changes",
    [
        {"method": TrustRegionOptions(strength=2.5e-7, centre="each_optimum", radius=0.1)},
        {"method": EwcOptions(strength=0.0)},
        {"network": UNet1dOptions(down_dims=[8, 16], attention_levels=[2], heads=2)},
        {"replay": GeneratorReplayOptions(pool=3, diffusion=DiffusionOptions(clip=None))},
        {"optimizer": OptimizerOptions(max_gradient_norm=float("inf"), warmup=0)},
        {
            "evaluation": EvaluationOptions(probe_tasks=2, probe_dense=1, probe_current=5),
            "workers": 3,
            "resume": "runs/x",
        },
        {"env": ["push-back", "stick-pull"], "seed": 7, "report": False, "n_obs_steps": 5},
        {"demonstrations": DemonstrationOptions(path="/a folder/é: #1, 'x'")},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_from_yaml_keeps_every_changed_value(tmp_path, changes):
    options = make_options(**changes)
    assert options != make_options()
    assert from_yaml(written(tmp_path, options)) == options


def edited(old, new):
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: "", "Missing key method"),
        (lambda text: "- a\n- b\n", "holds no options"),
        (lambda text: "a: [1\nb: {", "cannot be read"),
        (lambda text: text + "\nseed: 3\n", "duplicate key seed"),
        (lambda text: text[: text.index("replay:")], "not the options of a run"),
        (edited("seed: 0", "sead: 0"), "Key 'sead' not in 'TrainOptions'"),
        (edited("seed: 0", "seed: zero"), "could not be converted to Integer"),
        (edited("seed: 0", "seed: ${oc.env:HOME}"), "holds an interpolation or an alias"),
        (edited("name: run", "name: ${"), "holds an interpolation or an alias"),
        (
            edited("seed: 0", "seed: &a 0\nbatch_size: *a\nx: 1"),
            "holds an interpolation or an alias",
        ),
        (lambda text: "a: " + "[" * 2_000, "cannot be read"),
        (edited("warmup: 50", "warm_up: 50"), "Key 'warm_up' not in 'OptimizerOptions'"),
        (edited("name: trust_region", "name: trust_regoin"), "unknown method 'trust_regoin'"),
        (edited("name: mlp", "name: [mlp]"), "unknown network ['mlp']"),
        (edited("name: mlp", "name: {a: b}"), "unknown network"),
        (edited("  name: kfac\n", ""), "Missing key name"),
        (edited("method:\n", "method:\nx:\n"), "not the options of a run"),
        (edited("optimizer:\n", "optimizer: 3\nx:\n"), "not the options of a run"),
    ],
)
def test_from_yaml_of_a_damaged_file_is_one_line(tmp_path, damage, said):
    path = written(tmp_path, make_options())
    text = path.read_text()
    path.write_text(damage(text))
    assert path.read_text() != text
    with pytest.raises(ReconvergeError) as caught:
        from_yaml(path)
    line = str(caught.value)
    assert said in line
    assert "\n" not in line


def test_from_yaml_of_no_text_and_of_no_file_is_one_line(tmp_path):
    with pytest.raises(ReconvergeError, match="no such file; give the directory of a run"):
        from_yaml(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(b"seed: \xff\xfe")
    with pytest.raises(ReconvergeError, match=r"config.yaml: cannot be read \(.*restore it"):
        from_yaml(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"env": ["lift", "cann"]}, "'cann'.*did you mean 'can'"),
        ({"room_for": "metawrld"}, "unknown room_for 'metawrld': .*did you mean 'metaworld'"),
        ({"seed": -1}, "seed=-1: must be at least 0"),
        ({"method": EwcOptions(strength=-1.0)}, "method.strength=-1.0: must be at least 0"),
        ({"method": EwcOptions(centre="here")}, "unknown method.centre 'here'"),
        (
            {"evaluation": EvaluationOptions(n_rollouts=5)},
            "probe_rollouts=30: must be 0 to evaluation.n_rollouts=5",
        ),
        (
            {"evaluation": EvaluationOptions(probe_rollouts=0, probe_current=5)},
            "probe_current=5: needs evaluation.probe_rollouts of at least 1",
        ),
        ({"logger": "wandbb"}, "unknown logger 'wandbb'"),
    ],
)
def test_check_train_options_refuses_what_no_run_can_use(changes, said):
    with pytest.raises(ReconvergeError, match=said):
        check_train_options(make_options(**changes))


def test_check_train_options_returns_the_tasks_in_order():
    options = make_options(env=["square", "lift"])
    tasks = check_train_options(options)
    assert [task.label for task in tasks] == ["square", "lift"] == task_labels(options)
    assert [task.index for task in tasks] == [0, 1]


def test_deciding_holds_all_that_decides_a_result_as_json():
    decided = deciding(make_options())
    assert json.loads(json.dumps(decided)) == decided
    rest = {"env", "seed", "updates_per_task", "evaluation"}  # facts of their own in summary.json
    rest |= {"boundaries"}  # where they are told, as in runs of before
    free = {"resume", "name", "sweep", "checkpoint_every", "report", "logger", "device", "workers"}
    sight = {"observations", "cameras", "picture_size", "encoder"}
    assert decided.keys() == {spec.name for spec in fields(TrainOptions)} - rest - free - sight
    assert deciding(make_options(boundaries="detected"))["boundaries"] == "detected"
    seeing = deciding(make_options(observations="pixels"))
    assert seeing["sight"].keys() == sight
    elsewhere = DemonstrationOptions(path="elsewhere", collect=False)
    assert decided == deciding(replace(make_options(), demonstrations=elsewhere))


def test_policy_is_the_policys_own_options():
    options = make_options(n_obs_steps=5, horizon=6, n_action_steps=3, fourier_octaves=1)
    own = asdict(options.policy)
    assert own == {name: getattr(options, name) for name in own}


@pytest.mark.parametrize("table", [*GROUPS.values(), REPLAYS])
def test_groups_have_rows_named_by_their_key(table):
    assert all(options().name == name for name, options in table.items())
