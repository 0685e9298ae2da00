"""What a user types, and what comes back: one line for bad input, `--help`, task lists, several
runs.
"""

import json
import re
import resource
import shutil
import sys
from io import BytesIO, TextIOWrapper

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from reconverge.configs import commandline
from reconverge.configs.mistakes import mendable
from reconverge.datasets.layout import SCHEMA
from reconverge.datasets.store import DemonstrationStore
from reconverge.envs.catalog import ALIASES, TASKS
from reconverge.errors import ReconvergeError
from reconverge.options import help_lines, option_names
from reconverge.policy import evaluate, train
from reconverge.policy.continual.optimization import Optimization
from reconverge.policy.runs import checkpoint, execution
from reconverge.policy.runs.configuration import TRAIN, TrainOptions, from_yaml
from reconverge.policy.runs.folder import record_options
from reconverge.policy.runs.provenance import command
from reconverge.policy.runs.summary import read_summary
from reconverge.tools import collect, images
from support.simulators import use_simulators
from support.tiny_checkpoint import rewrite
from support.tiny_run import call, options, shorten, start


@pytest.fixture(autouse=True)
def quick(demonstrations, monkeypatch, simulator_of):
    """The session's simulators, and rollouts of 20 steps."""
    use_simulators(monkeypatch, "robosuite", simulator_of)
    shorten(monkeypatch, 20, "lift", "can")


@pytest.fixture
def stores(demonstrations, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(demonstrations, tmp_path / "stores")


@pytest.fixture
def fails(tmp_path, monkeypatch, capsys):
    """Calls an entry point with arguments that it must refuse; the one line that it says."""

    def call_and_read(arguments, main=train.main):
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        assert call(main, arguments, monkeypatch) == 2
        err = [
            line
            for line in capsys.readouterr().err.splitlines()
            if line.startswith("error:") or "Trace" in line
        ]
        assert len(err) == 1
        assert err[0].startswith("error: ")
        return err[0]

    return call_and_read


REFUSED = [
    ("env=lift,cann", ["'cann'", "'can'", "square"]),
    ("env=", ["env=", "lift, can, square"]),
    ("env=lift,can,lift", ["repeats lift", "once"]),
    ("method=trust_regoin", ["trust_regoin", "trust_region"]),
    ("method=null", ["'null'", "trust_region"]),
    ("network=mpl", ["mpl", "mlp"]),
    ("replay=genrator", ["genrator", "generator"]),
    ("updates_per_tsk=3", ["'updates_per_tsk'", "'updates_per_task'", "--help"]),
    ("network.widht=3", ["'network.widht'", "'network.width'"]),
    ("network.down_dims=3", ["network=mlp has no option 'down_dims'; network=unet1d has"]),
    ("replay.width=3", ["'replay.width'", "--help"]),
    ("method.momentum=1", ["method=trust_region has no option 'momentum'; method=vr_mcl has"]),
    ("hydra.run.dr=x", ["hydra.run.dr"]),
    ("seed", ["'seed': options are name=value, for example env=lift,can,square"]),
    ("lift", ["'lift': options are name=value"]),
    ("--hlep", ["unknown option '--hlep': did you mean '--help'?"]),
    ("method=3", ["unknown method 3: choose one of finetune, "]),
    ("+fisher=2.5", ["unknown fisher 2.5: choose one of rank1, "]),
    ("experiment=null", ["experiment=null: leave it out"]),
    ("env.x=3", ["unknown option 'env.x'", "did you mean 'env'?"]),
    ("--seed=3", ["unknown option '--seed': options are name=value, without dashes: seed="]),
    ("--batch-size=3", ["without dashes: batch_size="]),
    ("--method=er", ["without dashes: method="]),
    ("--evaluation.n_rollouts=5", ["without dashes: evaluation.n_rollouts="]),
    ("--experiment=cw10", ["without dashes: experiment="]),
    ("updates_per_task=0", ["updates_per_task=0", "at least 1"]),
    ("updates_per_task=-4", ["updates_per_task=-4", "at least 1"]),
    ("updates_per_task=1.5", ["updates_per_task=1.5", "whole number"]),
    ("updates_per_task=abc", ["updates_per_task=abc", "whole number"]),
    ("seed=abc", ["seed=abc", "whole number"]),
    ("seed=-1", ["seed=-1", "at least 0"]),
    ("seed=null", ["seed=null", "whole number"]),
    ("batch_size=-1", ["batch_size=-1", "at least 1"]),
    ("workers=abc", ["workers=abc"]),
    ("workers=0", ["workers=0", "at least 1"]),
    ("workers=1.5", ["workers=1.5", "whole number"]),
    ("evaluation.probe_tasks=1.5", ["probe_tasks=1.5", "whole number"]),
    ("diffusion.clip=wide", ["diffusion.clip=wide", "a number"]),
    ("checkpoint_every=0", ["checkpoint_every=0"]),
    ("network.width=-8", ["network.width=-8"]),
    ("network.width=wide", ["network.width=wide", "whole number"]),
    ("evaluation.probe_rollouts=-1", ["probe_rollouts=-1"]),
    ("evaluation=5", ["evaluation=5", "group"]),
    ("optimizer.learning_rate=fast", ["optimizer.learning_rate=fast", "a number"]),
    ("optimizer.learning_rate=-1", ["optimizer.learning_rate=-1"]),
    ("optimizer.max_gradient_norm=0.0", ["max_gradient_norm=0.0", "above 0"]),
    ("optimizer.ema_decay=1.0", ["optimizer.ema_decay=1.0", "below 1"]),
    ("batch_size=2", ["batch_size=2", "at least 3"]),
    ("diffusion.prediction_type=sampel", ["'sampel'", "sample"]),
    ("n_action_steps=9", ["n_action_steps", "9"]),
    ("replay.diffusion.prediction_type=sampel", ["'sampel'"]),
    ("report=perhaps", ["report=perhaps", "true or false"]),
    ("method.name=er", ["method.name=er", "those of trust_region; method=er chooses another"]),
    ("replay.network.name=unet1d", ["replay.network.name=unet1d", "those of mlp; leave it out"]),
    ("diffusion.num_inference_steps=1", ["num_inference_steps=1", "at least 2"]),
    ("method.centre=here", ["'here'", "before_task"]),
    ("env=5", ["5"]),
    ("demonstrations.noise=-0.1", ["demonstrations.noise=-0.1"]),
    ("demonstrations.path=[a,b]", ["demonstrations.path", "text"]),
    ("replay.updates=0", ["replay.updates=0"]),
    ("replay.pool=-5", ["replay.pool"]),
    ("replay.budget=3", ["replay=generator has no option 'budget'; replay=demonstrations has"]),
    ("fisher.samples=0", ["fisher.samples=0"]),
    ("device=gpu", ["'gpu'", "cpu"]),
    ("resume=nowhere", ["resume=nowhere", "give a directory"]),
    ("demonstrations.collect=perhaps", ["true or false"]),
    ("resume=", ["resume= is empty"]),
    ("name=..", ["name='..'", "must name a folder inside runs/"]),
    ("name=.", ["name='.'"]),
    ("name=", ["name=''"]),
    ("name=a/../../b", ["name='a/../../b'"]),
    ("name=/tmp/x", ["name='/tmp/x'"]),
    ("sweep=..", ["sweep='..'"]),
    ("name=${nothing}", ["name='${nothing}'"]),
    (f"name={'x' * 300}", ["longer than 200 bytes"]),
    ("updates_per_task=1e30", ["updates_per_task=1e30", "whole number"]),
    ("updates_per_task=10000000000", ["updates_per_task=10000000000", "at most 1000000000"]),
    (f"updates_per_task={'9' * 400}", ["updates_per_task=999", "at most"]),
    ("fourier_octaves=2000", ["fourier_octaves=2000", "at most 24"]),
    ("horizon=100000000", ["horizon=100000000", "at most 1000"]),
    ("network.width=1e8", ["network.width=1e8", "whole number"]),
    ("network.width=100000000000", ["network.width=100000000000", "at most 100000"]),
    ("network.width=100000", ["network: its training takes", "network.width=512"]),
    ("network.expansion=1e300", ["network.expansion=1e+300", "at most 100"]),
    ("replay.network.width=100000", ["replay.network: its training takes"]),
    ("seed=18446744073709551616", ["seed=18446744073709551616", "at most 9223372036854775807"]),
    ("seed=2^64", ["seed=2^64", "whole number"]),
    ("batch_size=1000000000000", ["batch_size=1000000000000", "at most 1000000"]),
    ("evaluation.n_rollouts=1000001", ["evaluation.n_rollouts=1000001", "at most 1000000"]),
    ("workers=100000", ["workers=100000", "at most 1000"]),
    (f"optimizer.learning_rate={'9' * 400}", ["optimizer.learning_rate: its number is larger"]),
    ("+seed.x=1", ["'seed.x'"]),
    ("--cfg", ["--cfg", "expected one argument"]),
    ("--cfg=nope", ["--cfg", "nope"]),
    ("optimizer.learning_rate=inf", ["optimizer.learning_rate=inf"]),
    ("optimizer.learning_rate=nan", ["optimizer.learning_rate=nan"]),
]


@pytest.mark.parametrize(("argument", "said"), REFUSED, ids=[argument for argument, _ in REFUSED])
def test_a_bad_value_gives_one_line(fails, monkeypatch, argument, said):
    monkeypatch.setattr(execution, "open_stores", lambda *a, **k: pytest.fail("it went to work"))
    line = fails([argument])
    assert all(part in line for part in said), line


def test_a_preset_that_sets_what_a_choice_lacks_gives_one_line(fails):
    line = fails(["experiment=cw10", "replay=demonstrations"])
    assert "experiment=cw10 sets replay.updates, which replay=demonstrations does not have" in line


@pytest.mark.parametrize(
    ("experiment", "mine", "lacks"),
    [
        ("cw10", ["replay=demonstrations", "replay.budget=100"], "replay.updates"),
        ("cw10_paper", ["method=ewc", "network=mlp"], "method.distillation_weight"),
    ],
)
def test_what_is_said_to_give_in_place_of_a_preset_is_taken(fails, experiment, mine, lacks):
    line = fails([f"experiment={experiment}", *mine])
    given = line.partition(" give ")[2].split()
    assert not any(each.startswith(lacks) for each in given)
    options = commandline.compose(TRAIN, [*given, *mine])
    preset = commandline.compose(TRAIN, [f"experiment={experiment}"])
    assert options.updates_per_task == preset.updates_per_task
    assert options.diffusion == preset.diffusion
    assert options.env == preset.env


def test_what_is_refused_leaves_its_name_free(fails, tmp_path, demonstrations, monkeypatch):
    folder = tmp_path / "run"
    assert "n_action_steps" in fails(options(demonstrations, folder, "n_action_steps=9"))
    more = ("diffusion.clip=null", "evaluation.probe_tasks=null", "optimizer.max_gradient_norm=inf")
    assert (
        call(train.main, options(demonstrations, folder, "method=finetune", *more), monkeypatch)
        == 0
    )
    assert OmegaConf.load(folder / "config.yaml").diffusion.clip is None


def test_a_path_may_hold_what_a_sweep_names_its_folders_by(tmp_path, demonstrations, monkeypatch):
    folder = tmp_path / "method=finetune,seed=0"
    moved = shutil.copytree(demonstrations, tmp_path / "x=1,y=2")
    assert (
        call(
            train.main,
            options(moved, None, "method=finetune", f"hydra.run.dir='{folder}'"),
            monkeypatch,
        )
        == 0
    )
    output = folder / "e.json"
    arguments = [f"checkpoint={folder}", "env=lift", "n_rollouts=2", f"output={output}"]
    assert call(evaluate.main, arguments, monkeypatch) == 0
    assert output.exists()


def attributes(store, **changes):
    DemonstrationStore.open(store, "a").update_attributes(changes)


def test_a_store_of_another_task(fails, stores):
    shutil.rmtree(stores / "can.zarr")
    shutil.copytree(stores / "lift.zarr", stores / "can.zarr")
    line = fails(options(stores))
    assert "can.zarr: task is 'lift', wanted 'can'" in line
    assert "tools.collect" in line


def test_a_store_of_another_simulator_version(fails, stores):
    attributes(stores / "lift.zarr", versions={"mujoco": "2.1.0"})
    line = fails(options(stores))
    assert "made with mujoco 2.1.0, running mujoco 3" in line
    assert "tools.collect" in line


def test_a_store_of_another_action_size(fails, stores):
    old = DemonstrationStore.open(stores / "lift.zarr")
    shutil.rmtree(stores / "lift.zarr")
    kept = set(old.attributes) - {*SCHEMA, "checksum"}
    DemonstrationStore.create(
        stores / "lift.zarr",
        old.observation_sizes,
        4,
        {name: old.attributes[name] for name in kept},
        scalar_types={"seed": "int64"},
    )
    assert "action_size is 4, wanted 7" in fails(options(stores))
    assert "action_size" not in fails(options(stores, None, "updates_per_task=0"))


@pytest.mark.parametrize("damage", ["truncated", "edited", "attributes"])
def test_a_damaged_store(fails, stores, damage):
    chunk = max(
        (stores / "can.zarr" / "data" / "object").rglob("c/*/0"),
        key=lambda path: path.stat().st_size,
    )
    content = chunk.read_bytes()
    if damage == "truncated":
        chunk.write_bytes(content[: len(content) // 2])
    elif damage == "edited":
        chunk.write_bytes(content[:40] + bytes(b ^ 255 for b in content[40:60]) + content[60:])
    else:
        root = stores / "can.zarr" / "zarr.json"
        root.write_text(root.read_text().replace('"noise": 0.2', '"noise": 0.3'))
    line = fails(options(stores))
    assert "can.zarr" in line
    assert "edited" in line
    assert "restore a copy" in line


def run_once(tmp_path, demonstrations, monkeypatch, *extra):
    folder = tmp_path / "run"
    assert (
        call(train.main, options(demonstrations, folder, "updates_per_task=8", *extra), monkeypatch)
        == 0
    )
    return folder


def test_a_run_its_directory_and_a_checkpoint_of_another_architecture(
    fails, tmp_path, demonstrations, monkeypatch, capsys
):
    folder = run_once(tmp_path, demonstrations, monkeypatch, "method=finetune")
    assert "average success" in capsys.readouterr().out
    config = OmegaConf.load(folder / "config.yaml")
    assert list(config.env) == ["lift", "can"]
    assert config.method.name == "finetune"
    assert "hydra" not in config

    line = fails(options(demonstrations, folder))
    assert "holds a run already" in line
    assert f"resume={folder}" in line

    recorded = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(recorded.replace("width: 16", "width: 17", 1))
    line = fails([f"resume={folder}"])
    assert f"{folder}/config.yaml: is not as it was written" in line
    assert f"type what is to change: reconverge train resume={folder} name=value" in line
    record_options(from_yaml(folder / "config.yaml"), folder)
    line = fails([f"resume={folder}"])
    assert "another architecture" in line
    assert "restore" in line
    (folder / "config.yaml").write_text(recorded)

    newest = folder / "checkpoints" / "1_can"
    policy = json.loads((newest / "manifest.json").read_text())["policy"]
    policy["network"]["width"] = 17
    rewrite(newest, policy=policy)
    line = fails([f"checkpoint={folder}", "n_rollouts=1"], evaluate.main)
    assert "do not fit the architecture" in line
    (newest / "state.safetensors").write_bytes(b"")
    before = f"use checkpoint={folder}/checkpoints/0_lift; delete it to resume from 0_lift"
    for main, argument in (
        (evaluate.main, f"checkpoint={folder}"),
        (train.main, f"resume={folder}"),
    ):
        line = fails([argument], main)
        assert "1_can: unusable checkpoint (state.safetensors is not as it was written)" in line
        assert before in line
    assert "nope" in fails(["checkpoint=nope"], evaluate.main)
    assert "checkpoint" in fails([], evaluate.main)


def poison(monkeypatch, at):
    step, calls = Optimization.step, []

    def poisoned(self, loss):
        calls.append(1)
        return step(self, loss * float("nan") if len(calls) == at else loss)

    monkeypatch.setattr(Optimization, "step", poisoned)


def test_a_loss_that_is_not_finite_leaves_the_run_resumable(
    tmp_path, demonstrations, monkeypatch, capsys
):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        poison(patch, at=12 + 7)
        assert (
            call(train.main, options(demonstrations, folder, "method=finetune"), monkeypatch) == 2
        )
    said = capsys.readouterr()
    assert "error: the loss is nan at update 6" in said.err
    assert f"continue with: reconverge train resume={folder} optimizer.learning_rate=" in said.out
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"0_lift", "1_can@4"}
    slower = [f"resume={folder}", "optimizer.learning_rate=1e-3"]
    assert call(train.main, slower, monkeypatch) == 0
    assert read_summary(folder).changes[0]["options"] == {"optimizer.learning_rate": 1e-3}


def exhaust(monkeypatch, at):
    """Let a GPU have no memory left at the `at`-th update."""
    calls, step = [], Optimization.step

    def exhausted(self, loss):
        calls.append(1)
        if len(calls) == at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(self, loss)

    monkeypatch.setattr(Optimization, "step", exhausted)


def test_a_run_that_lacked_memory_at_first_is_typed_again(
    fails, tmp_path, demonstrations, monkeypatch
):
    typed = options(demonstrations, tmp_path / "run", "method=finetune")
    with monkeypatch.context() as patch:
        exhaust(patch, at=1)
        assert "the memory is not enough (CUDA out of memory" in fails(typed)
    smaller = [each for each in typed if not each.startswith("batch_size=")] + ["batch_size=4"]
    assert call(train.main, smaller, monkeypatch) == 0


def test_a_run_that_lacked_memory_later_is_resumable(tmp_path, demonstrations, monkeypatch, capsys):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        exhaust(patch, at=12 + 7)
        typed = options(demonstrations, folder, "method=finetune")
        assert call(train.main, typed, monkeypatch) == 2
    assert f"continue with: reconverge train resume={folder}" in capsys.readouterr().out
    assert call(train.main, [f"resume={folder}", "batch_size=4"], monkeypatch) == 0


def test_an_absurd_learning_rate_stops_in_one_line(fails, tmp_path, demonstrations):
    line = fails(
        options(
            demonstrations, tmp_path / "run", "optimizer.learning_rate=1e30", "optimizer.warmup=1"
        )
    )
    assert "the loss is" in line


def test_a_full_disk_keeps_the_earlier_checkpoints(fails, tmp_path, demonstrations, monkeypatch):
    folder, write, calls = tmp_path / "run", checkpoint.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) == 10:  # the fifth checkpoint's state
            raise OSError(28, "No space left on device")
        write(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        line = fails(options(demonstrations, folder, "method=finetune"))
    assert "No space left on device" in line
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"0_lift"}
    assert checkpoint.load(folder / "checkpoints" / "0_lift")
    assert call(train.main, [f"resume={folder}"], monkeypatch) == 0


def test_a_disk_that_is_really_full_gives_one_line(fails, tmp_path, demonstrations):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        line = fails(options(demonstrations, tmp_path / "run", "env=lift", "network.width=256"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "checkpoints/0_lift" in line
    assert "cannot be written" in line
    assert "free disk space" in line
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("main", "options"),
    [
        (train.main, TrainOptions),
        (evaluate.main, evaluate.EvaluateOptions),
        (collect.main, collect.CollectOptions),
    ],
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_text_lists_every_option_with_its_meaning(monkeypatch, capsys, main, options, flag):
    assert call(main, [flag], monkeypatch) == 0
    out = capsys.readouterr().out
    assert set(help_lines(options())) <= set(out.splitlines())
    rows = [options()]
    if options is TrainOptions:
        rows += [row() for table in TRAIN.groups.values() for row in table.values()]
    for row in rows:
        for name in option_names(row):
            last = name.rpartition(".")[2]
            described = [line for line in out.splitlines() if line.strip().startswith(f"{last}:")]
            assert described or last in ("name", *TRAIN.groups), name
    assert "hydra" not in out.replace("hydra.run.dir", "").replace("hydra/launcher=", "")


def test_help_text_lists_choices_and_presets():
    text = commandline.help_text(TRAIN)
    assert "\n  trust_region (default)  # " in text
    assert "\n  mlp (default)  # " in text
    for name in (*TASKS, *ALIASES):
        assert re.search(rf"^env: .*\b{name}\b", text, re.MULTILINE), name
    for choice in ("finetune", "trust_region_paper", "unet1d_paper", "rollout", "rank1", "smoke"):
        assert f"\n  {choice}" in text, choice


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """The options that the run's function got, instead of runs."""
    found = []

    def spy(options, *_):
        found.append((options, HydraConfig.get().runtime.output_dir))

    monkeypatch.setattr(train, "execute", spy)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.mark.parametrize("given", ["env=lift,can,square", "env=[lift,can,square]", None])
def test_tasks_are_a_list(seen, monkeypatch, given):
    assert call(train.main, [given] if given else [], monkeypatch) == 0
    assert [options.env for options, _ in seen] == [["lift", "can", "square"]]


@pytest.mark.parametrize(
    "flags", [["--cfg", "job"], ["--info", "config"], ["-c=job"], ["--cfg", "job", "--resolve"]]
)
def test_flags_of_hydra_go_on(seen, monkeypatch, capsys, flags):
    assert call(train.main, ["seed=7", *flags], monkeypatch) == 0
    assert "seed: 7" in capsys.readouterr().out
    assert not seen


@pytest.mark.parametrize(("flag", "position"), [("-m", 0), ("--multirun", 3)])
def test_several_runs(seen, monkeypatch, flag, position):
    arguments = ["env=lift,can", "seed=0,1", "method=replay,trust_region"]
    arguments.insert(position, flag)
    assert call(train.main, arguments, monkeypatch) == 0
    assert all(options.env == ["lift", "can"] for options, _ in seen)
    found = {(options.seed, options.method.name) for options, _ in seen}
    assert found == {(0, "replay"), (0, "trust_region"), (1, "replay"), (1, "trust_region")}
    assert len({folder for _, folder in seen}) == 4


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        (["network=unet1d", "network.kernel_size=3,5"], 2),
        (["network=unet1d", "network.down_dims=[8,16],[8,32]"], 2),
        (["updates_per_task=range(1,4)"], 3),
    ],
)
def test_sweeps_over_options_of_a_group(seen, monkeypatch, arguments, runs):
    assert call(train.main, ["-m", *arguments], monkeypatch) == 0
    assert len(seen) == runs


SWEEPS = [
    (["method=replay,trust_regoin"], "trust_regoin"),
    (["updates_per_tsk=1,2"], "'updates_per_tsk'"),
    (["seed=0,abc"], "seed=abc"),
    (
        ["network=mlp,unet1d", "network.kernel_size=3"],
        "network=mlp has no option 'kernel_size'",
    ),  # hydra composes what is not swept first
]


@pytest.mark.parametrize(("arguments", "said"), SWEEPS)
def test_a_bad_value_in_a_sweep_gives_one_line(fails, seen, arguments, said):
    assert said in fails(["-m", *arguments])


@pytest.mark.parametrize("door", [train, images])
def test_the_name_of_one_run_is_refused_for_several(fails, monkeypatch, door):
    monkeypatch.setattr(door, "execute", lambda *_: pytest.fail("it went to work"))
    line = fails(["-m", "seed=0", "name=mine 2"], door.main)
    assert "name=mine 2: names the folder of one run" in line
    assert line.endswith("give 'sweep=mine 2'")


@pytest.mark.parametrize(
    ("door", "argument"), [(train, "workers=1,2"), (images, "report=true,false")]
)
def test_several_runs_in_one_folder_are_refused(fails, monkeypatch, door, argument):
    monkeypatch.setattr(door, "execute", lambda *_: pytest.fail("it went to work"))
    line = fails(["-m", "seed=0,1", argument], door.main)
    assert f"{argument}: all would be one run" in line
    assert "give one value" in line


def test_several_runs_may_differ_by_what_names_their_folders(seen, monkeypatch):
    arguments = ["-m", "workers=1,2", "hydra.sweep.subdir='${workers}'"]
    assert call(train.main, arguments, monkeypatch) == 0
    assert [folder.rpartition("/")[2] for _, folder in seen] == ["1", "2"]


def test_several_runs_may_lie_in_a_folder_of_that_name(seen, monkeypatch, tmp_path):
    arguments = ["-m", "seed=0", "name=mine", "hydra.sweep.dir='runs/${name}'"]
    assert call(train.main, arguments, monkeypatch) == 0
    assert [folder for _, folder in seen] == [str(tmp_path / "runs" / "mine" / "seed=0")]


def test_a_run_has_a_directory_of_its_own(seen, monkeypatch, tmp_path):
    for arguments in ([], ["name=mine"], ["hydra.run.dir=elsewhere/x"], ["method=ewc"]):
        assert call(train.main, arguments, monkeypatch) == 0
    folders = [folder for _, folder in seen]
    assert folders[1] == str(tmp_path / "runs" / "mine")
    assert folders[2] == str(tmp_path / "elsewhere" / "x")
    assert "_trust_region" in folders[0]
    assert "_ewc" in folders[3]
    assert str(tmp_path / "runs" / "20") in folders[0]


def test_experiments_and_options_combine(seen, monkeypatch):
    assert (
        call(
            train.main,
            ["experiment=smoke", "method=ewc", "seed=7", "optimizer.learning_rate=1"],
            monkeypatch,
        )
        == 0
    )
    given = seen[0][0]
    assert given.updates_per_task == 60
    assert (given.seed, given.method.name, given.optimizer.learning_rate) == (7, "ewc", 1)


def test_run_keeps_the_traceback_of_a_bug(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def bug(*_):
        raise ValueError("zip() argument 2 is shorter than argument 1")

    monkeypatch.setattr(train, "execute", bug)
    with pytest.raises(ValueError, match="zip"):
        call(train.main, [], monkeypatch)


def test_an_interrupt_is_130_and_an_empty_error_still_says_something(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for error, code, said in (
        (KeyboardInterrupt(), 130, ""),
        (ReconvergeError(), 2, "error: ReconvergeError\n"),
    ):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(train, "execute", fail)
        assert call(train.main, [], monkeypatch) == code
        assert capsys.readouterr().err == said


def test_a_name_that_the_terminal_has_no_letters_for_is_printed(monkeypatch):
    """After all the work: `--output cmpé` where PYTHONIOENCODING is ascii."""
    stdout = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    with commandline.front_door():
        print("everything is in cmpé")
    assert stdout.buffer.getvalue() == b"everything is in cmp\\xe9\n"


def test_an_error_holds_nothing_that_a_terminal_acts_on(capsys):
    with pytest.raises(SystemExit), commandline.front_door():
        raise ReconvergeError("data/\x1b[2Jx is missing")
    assert capsys.readouterr().err == "error: data/\\x1b[2Jx is missing\n"


def test_collect_refuses_bad_values(fails):
    for argument, said in (
        ("episodes=0", "episodes=0"),
        ("noise=2", "noise=2"),
        ("env=lfit", "'lift'"),
        ("episodes=x", "whole"),
    ):
        assert said in fails([argument], collect.main)


def test_a_process_ends_with_code_2_and_no_traceback(tmp_path):
    process = start(["env=lift,cann"], tmp_path)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (2, "")
    choices = ", ".join([*TASKS, *ALIASES])
    assert err == f"error: unknown task 'cann': choose one of {choices}; did you mean 'can'?\n"


TYPED = [
    ("python -m policy.train", ["name=it's", "env=lift,can"], "'name=it'\"'\"'s' env=lift,can"),
    ("reconverge train", ["-m", "seed=0,1", "sweep=a b"], "-m seed=0,1 'sweep=a b'"),
]


@pytest.mark.parametrize(("program", "arguments", "quoted"), TYPED)
def test_the_command_is_recorded_as_it_was_typed(tmp_path, monkeypatch, program, arguments, quoted):
    found = []
    monkeypatch.setattr(train, "execute", lambda *_: found.append(command()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    GlobalHydra.instance().clear()
    train.main()
    assert set(found) == {f"{program} {quoted}"}


def test_a_sweep_over_many_options_has_folders_with_names_that_can_be_made(
    seen, tmp_path, monkeypatch
):
    long = [f"evaluation.{name}=1" for name in ("n_rollouts", "probe_rollouts", "slots")]
    long += ["optimizer.weight_decay=0.000001", "optimizer.max_gradient_norm=1.5"]
    long += ["network.diffusion_step_embed_dim=64", "replay.network.diffusion_step_embed_dim=64"]
    long += ["replay.diffusion.num_train_timesteps=50", "diffusion.num_train_timesteps=50"]
    for _ in range(2):  # typed again it goes on in the same folders
        assert call(train.main, ["-m", "seed=0,1", *long], monkeypatch) == 0
    folders = [folder for _, folder in seen]
    assert folders[:2] == folders[2:]
    assert len(set(folders)) == 2
    assert all(len(folder.rpartition("/")[2]) <= 150 for folder in folders)


def test_mendable_is_what_a_user_can_mend():
    full = OSError(28, "No space left on device", "/data/x")
    assert "/data/x: No space left on device" in str(mendable(full))
    assert "the memory is not enough" in str(mendable(MemoryError()))
    assert "the memory is not enough" in str(
        mendable(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."))
    )
    cuda = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")
    assert "the memory is not enough" in str(mendable(cuda))
    assert mendable(ValueError("bug")) is None
    assert mendable(RuntimeError("bug")) is None
