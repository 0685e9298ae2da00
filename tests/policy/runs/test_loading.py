"""A checkpoint's policy: the same actions, its tasks, and one line for what is damaged."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from reconverge.envs.catalog import TASKS
from reconverge.errors import ReconvergeError
from reconverge.policy.runs import loading
from reconverge.policy.runs.checkpoint import Checkpoint, CheckpointError, save
from reconverge.policy.runs.loading import (
    PolicySpec,
    find_checkpoint,
    find_device,
    load_policy,
    make_normalizer,
    make_policy,
)
from support.tiny_checkpoint import make_checkpoint, make_spec, rewrite


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose newest checkpoint is of lift and can."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    make_checkpoint(folder / "checkpoints", input_frames={"can": "world"})
    return folder


def test_load_policy_needs_the_checkpoint_alone(tmp_path):
    torch.manual_seed(0)
    spec = make_spec()
    policy = make_policy(spec, make_normalizer(spec, [TASKS[name] for name in spec.tasks]))
    saved = Checkpoint(policy.state_dict(), {}, {"policy": spec.to_json()})
    folder = save(tmp_path / "checkpoints", 0, "lift", None, saved)
    for path in (folder, str(tmp_path)):  # the checkpoint, and the run that holds it
        found = load_policy(path)
        assert (found.path, found.spec) == (folder, spec)
        assert not found.policy.training
        seen, task, noise = torch.rand(4, 2, 23), torch.tensor([0, 1, 0, 1]), torch.randn(4, 4, 7)
        expected = policy.plan(seen, task, noise)
        assert torch.equal(found.policy.plan(seen, task, noise), expected)


def test_load_policy_gives_tasks_their_index_and_frame(run):
    loaded = load_policy(run)
    assert loaded.tasks == (
        TASKS["lift"],
        replace(TASKS["can"], index=1, input_frame="world"),
    )
    assert loaded.task("can") == loaded.tasks[1]
    assert loaded.select(["can", "lift"]) == list(loaded.tasks[::-1])
    assert loaded.select([]) == list(loaded.tasks)
    assert loaded.title == "mine/0_lift"


@pytest.mark.parametrize(
    ("method", "known"),
    [
        ("single", [("can", 1)]),
        ("packnet", [("can", 1)]),
        ("replay", [("lift", 0), ("can", 1)]),
    ],
)
def test_load_policy_of_one_task_is_for_the_one_it_learned(tmp_path, method, known):
    loaded = make_checkpoint(tmp_path, "can", index=1, facts={"method": method})
    assert [(task.label, task.index) for task in loaded.tasks] == known
    moved = loaded.path.rename(tmp_path / "copied")  # its name is not what tells
    assert load_policy(moved).tasks == loaded.tasks


@pytest.mark.parametrize(("method", "learned"), [("replay", 1), ("multitask", 2)])
def test_load_policy_knows_how_many_tasks_were_learned(tmp_path, method, learned):
    assert make_checkpoint(tmp_path, "lift", index=0, facts={"method": method}).learned == learned


def test_task_and_select_list_the_choices(run):
    loaded = load_policy(run)
    with pytest.raises(ReconvergeError, match=r"0_lift: 'lfit': choose one of lift, can; did you"):
        loaded.task("lfit")
    with pytest.raises(ReconvergeError, match=r"'square': choose one of lift, can"):
        loaded.select(["robosuite"])


def test_actor_acts_on_its_task(run):
    loaded = load_policy(run)
    chunks = []
    for task in loaded.tasks:
        actor = loaded.actor(task, rows=1)
        actor.begin(0, 3)
        chunks.append(actor.act([0], np.zeros((1, 2, 19), np.float32)))
    assert chunks[0].shape == (1, 2, 7)
    assert np.abs(chunks[0] - chunks[1]).max() > 1e-3


def test_actor_finds_a_task_of_the_table_by_its_label(tmp_path):
    """There its index is 0, that of lift."""
    assert TASKS["can"].index == 0
    assert make_checkpoint(tmp_path, input_frames={"lift": "world"}).actor(TASKS["can"]).task == 1


def test_actor_refuses_a_task_that_the_policy_learned_otherwise(tmp_path):
    loaded = make_checkpoint(tmp_path, input_frames={"lift": "world"})
    with pytest.raises(ReconvergeError, match=r"lift: .* another frame .*; give .*task\('lift'\)"):
        loaded.actor(TASKS["lift"])
    can = loaded.task("can")
    turned = dict(reversed(can.observations.items()))  # the same numbers in another order
    for observations in (TASKS["lift"].observations, turned):
        with pytest.raises(ReconvergeError, match=r"can: .* another observations=; give"):
            loaded.actor(replace(can, observations=observations))
    assert loaded.actor(replace(can, max_steps=5)).task == 1


def test_find_checkpoint_says_what_to_give(tmp_path):
    for path, said in (
        (tmp_path / "elsewhere", r"elsewhere: no checkpoint here; give runs/<name>"),
        (None, "checkpoint= is missing; give runs/<name>"),
    ):
        with pytest.raises(CheckpointError, match=said):
            find_checkpoint(path)


def test_find_checkpoint_takes_a_damaged_checkpoint_for_one(tmp_path):
    folder = make_checkpoint(tmp_path / "checkpoints").path
    for name in ("manifest.json", "state.safetensors", "model.safetensors"):
        (folder / name).unlink()
        assert find_checkpoint(folder) == folder
        with pytest.raises(CheckpointError, match=r"0_lift: unusable .* is missing"):
            load_policy(folder)
    elsewhere = make_checkpoint(tmp_path / "copies").path
    (elsewhere / "manifest.json").unlink()
    assert find_checkpoint(elsewhere) == elsewhere


def test_load_policy_of_a_damaged_run_offers_the_checkpoint_before(tmp_path):
    before = make_checkpoint(tmp_path / "checkpoints").path
    newest = make_checkpoint(tmp_path / "checkpoints", "can", index=1).path
    model = bytearray((newest / "model.safetensors").read_bytes())
    model[len(model) // 2] ^= 4
    (newest / "model.safetensors").write_bytes(model)
    with pytest.raises(CheckpointError, match=f"^{newest}: .*use checkpoint={before}; delete it"):
        load_policy(tmp_path)
    assert load_policy(before).path == before


def test_find_device_lists_the_choices():
    assert find_device("cpu").type == "cpu"
    with pytest.raises(ReconvergeError, match="unknown device 'gpu': choose one of auto"):
        find_device("gpu")


def test_find_device_says_that_a_gpu_cannot_be_used(monkeypatch):
    def fail(*_, **__):
        raise torch.AcceleratorError("CUDA error: all CUDA-capable devices are busy", 46)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(ReconvergeError, match=r"device=cuda: the GPU .*CUDA error: all .* busy"):
        find_device("auto")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, torch.AcceleratorError])
def test_load_policy_does_not_blame_a_checkpoint_for_a_gpu(tmp_path, monkeypatch, error):
    make_checkpoint(tmp_path / "checkpoints")

    def fail(*_):
        raise error("CUDA error")

    monkeypatch.setattr(loading, "make_normalizer", fail)
    with pytest.raises(error):
        load_policy(tmp_path)


def test_load_policy_does_not_blame_a_checkpoint_for_a_missing_package(tmp_path, monkeypatch):
    def missing(name):
        raise ReconvergeError(f"{name}: LIBERO is not installed; pip install 'reconverge[libero]'")

    folder = make_checkpoint(tmp_path).path
    monkeypatch.setattr(loading, "get_task", missing)
    with pytest.raises(CheckpointError, match="cannot be loaded here: lift: LIBERO is not"):
        load_policy(folder)


def rewrite_policy(folder, **changes):
    """Change entries of the description of a checkpoint's policy; None removes one."""
    policy = {**json.loads((folder / "manifest.json").read_text())["policy"], **changes}
    rewrite(folder, policy={key: value for key, value in policy.items() if value is not None})


DAMAGE = [
    ({"horizon": "4"}, "manifest.json: policy: horizon: must be a whole number, got '4'"),
    ({"horizon": True}, "horizon: must be a whole number, got True"),
    ({"tasks": "lift"}, "tasks: must be a list, got 'lift'"),
    ({"tasks": ["lift", 3]}, r"tasks\[1\]: must be text, got 3"),
    ({"network": ["mlp"]}, r"network: must be a map, got \['mlp'\]"),
    ({"network": {"width": 3}}, "network: lacks 'name'"),
    ({"input_frames": {"lift": 1}}, r"input_frames\.lift: must be text, got 1"),
    ({"n_obs_steps": None}, "policy: lacks 'n_obs_steps'"),
    ({"horizn": 4}, "policy: unknown 'horizn': it has tasks, network"),
    ({"tasks": ["lift", "cann"]}, "cannot be loaded here: .*'cann'"),
    ({"n_action_steps": 9}, "cannot be loaded here: n_action_steps"),
    ({"network": {"name": "mlp", "width": 25}}, "do not fit the architecture"),
    (
        {"network": {"name": "mlp", "width": 20_000}},
        "do not fit .*more than [0-9]+ numbers, far more than the weights",
    ),
    (
        {"network": {"name": "mlp", "depth": 2000}},
        "cannot be loaded here: .*depth=2000",
    ),
    ({"network": {"name": "mlp", "wdith": 25}}, "cannot be loaded here: .*wdith"),
]


@pytest.mark.parametrize(("changes", "said"), DAMAGE, ids=range(len(DAMAGE)))
def test_load_policy_names_the_damaged_field_in_one_line(tmp_path, changes, said):
    folder = make_checkpoint(tmp_path).path
    rewrite_policy(folder, **changes)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_policy(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_load_policy_without_a_policy_and_with_a_wrong_task(tmp_path):
    folder = make_checkpoint(tmp_path, facts={"method": "single"}).path
    for changes, said in (
        ({"task": 2}, r"manifest.json: task: must be in 0..1, got 2"),
        ({"policy": [1]}, r"manifest.json: policy: must be a map, got \[1\]"),
        ({"policy": None}, r"manifest.json: policy: must be a map, got None"),
    ):
        rewrite(folder, **changes)
        with pytest.raises(CheckpointError, match=said):
            load_policy(folder)


def test_from_json_reads_what_to_json_gave(tmp_path):
    spec = make_spec(input_frames={"lift": "world"})
    told = json.loads(json.dumps(spec.to_json()))
    assert PolicySpec.from_json(told, tmp_path) == spec
    del told["input_frames"]
    assert PolicySpec.from_json(told, tmp_path) == make_spec()
