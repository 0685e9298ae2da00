import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from tiny import NETWORK, make_normalizer

from policy import checkpoint
from policy.checkpoint import Checkpoint, CheckpointError, load, newest, save
from policy.loading import PolicySpec, find_checkpoint, load_policy, make_policy

SPEC = PolicySpec(
    tasks=["lift", "can"],
    network={"name": "mlp", **NETWORK},
    diffusion={"train_steps": 20, "inference_steps": 4, "prediction": "sample"},
    observation_steps=2,
    action_steps=3,
    executed_steps=2,
    observation_size=3,
    action_size=2,
    task_conditioning="embedding",
    fourier_octaves=1,
)


def example(value=1.0):
    base = torch.arange(12.0).view(3, 4) * value
    weights = {"a": base.T, "shared": base, "empty": torch.zeros(0), "flag": torch.tensor([True, False])}
    state = {"model/x": base[0], "count": torch.tensor([3, 2**60]), "double": torch.tensor(0.1, dtype=torch.float64)}
    return Checkpoint(weights, state, {"progress": {"task": 1}, "value": value})


def assert_same(found, wanted):
    for part in ("weights", "state"):
        tensors, expected = getattr(found, part), getattr(wanted, part)
        assert tensors.keys() == expected.keys()
        for name, value in expected.items():
            assert tensors[name].dtype == value.dtype
            assert torch.equal(tensors[name], value), name
    assert wanted.manifest.items() <= found.manifest.items()


def test_what_is_saved_comes_back(tmp_path):
    folder = save(tmp_path / "checkpoints", 0, "lift", None, example())
    assert folder.name == "0_lift"
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "state.safetensors", "manifest.json"}
    assert_same(load(folder), example())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["task"], manifest["update"]) == (0, None)


def test_the_newest_is_the_one_furthest_on(tmp_path):
    assert newest(tmp_path / "none") is None
    for name in ("0_lift", "1_can@9", "1_can@100", ".x.partial", "notes"):
        (tmp_path / name).mkdir()
    assert newest(tmp_path).name == "1_can@100"
    (tmp_path / "1_can").mkdir()
    assert newest(tmp_path).name == "1_can"
    (tmp_path / "10_far@2").mkdir()
    assert newest(tmp_path).name == "10_far@2"


def test_checkpoints_on_the_way_go_and_learned_tasks_stay(tmp_path):
    (tmp_path / ".old.partial").mkdir()
    for task, update in ((0, 5), (0, 10), (0, None), (1, 5), (1, 10)):
        save(tmp_path, task, "lift" if task == 0 else "can", update, example())
    assert {path.name for path in tmp_path.iterdir()} == {"0_lift", "1_can@10"}
    save(tmp_path, 1, "can", 10, example(2.0))  # again, after a resume
    assert_same(load(tmp_path / "1_can@10"), example(2.0))


@pytest.mark.parametrize("failing", [1, 2])
def test_a_full_disk_leaves_the_earlier_checkpoints(tmp_path, monkeypatch, failing):
    save(tmp_path, 0, "lift", None, example())
    save(tmp_path, 1, "can", 5, example(2.0))
    calls, write = [], checkpoint.save_file

    def full(tensors, path):
        calls.append(path)
        if len(calls) == failing:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    for update in (5, 10):  # another one, and one that would replace the newest
        calls.clear()
        with pytest.raises(OSError, match="No space left"):
            save(tmp_path, 1, "can", update, example(3.0))
    assert {path.name for path in tmp_path.iterdir()} == {"0_lift", "1_can@5"}
    assert_same(load(newest(tmp_path)), example(2.0))


def test_a_disk_that_is_really_full_is_an_oserror(tmp_path):
    code = (
        "import resource, sys, torch; from pathlib import Path; from policy.checkpoint import Checkpoint, save\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "small, large = {'x': torch.zeros(10)}, {'x': torch.zeros(100_000)}\n"
        "folder = Path(sys.argv[1]); save(folder, 0, 'lift', None, Checkpoint(small, small, {}))\n"
        "try: save(folder, 1, 'can', 3, Checkpoint(small, large, {}))\n"
        "except OSError as error: print('OSError', error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("OSError"), done.stderr[-2000:]
    assert [path.name for path in tmp_path.iterdir()] == ["0_lift"]
    assert load(tmp_path / "0_lift").weights["x"].shape == (10,)


@pytest.mark.parametrize("file", ["model.safetensors", "state.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "edited"])
def test_a_damaged_checkpoint_is_named(tmp_path, file, damage):
    folder = save(tmp_path, 0, "lift", None, example())
    content = (folder / file).read_bytes()
    if damage == "gone":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content[: len(content) // 2] if damage == "cut" else b"\xff\xff" + content[2:])
    with pytest.raises(CheckpointError, match=r"0_lift: damaged or incomplete checkpoint .*use another") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_no_checkpoint_and_another_schema(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load(tmp_path / "none")
    folder = save(tmp_path, 0, "lift", None, example())
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(CheckpointError, match="checkpoint schema 99"):
        load(folder)


def saved_policy(folder, spec=SPEC):
    torch.manual_seed(0)
    policy = make_policy(spec, make_normalizer())
    saved = Checkpoint(policy.state_dict(), {}, {"policy": asdict(SPEC)})
    return policy, save(folder / "checkpoints", 0, "lift", None, saved)


def test_a_policy_is_built_from_its_checkpoint_alone(tmp_path):
    policy, folder = saved_policy(tmp_path)
    for path in (folder, tmp_path):  # the checkpoint, and the run that holds it
        found, spec = load_policy(path)
        assert spec == SPEC
        assert not found.training
        seen, task, noise = torch.rand(4, 2, 3), torch.tensor([0, 1, 0, 1]), torch.randn(4, 3, 2)
        assert torch.equal(found.plan(seen, task, noise), policy.plan(seen, task, noise))
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        find_checkpoint(tmp_path / "elsewhere")


@pytest.mark.parametrize("network", [{"name": "mlp", **NETWORK, "width": 25}, {"name": "mlp", **NETWORK, "depth": 2}])
def test_weights_of_another_architecture_are_refused(tmp_path, network):
    _, folder = saved_policy(tmp_path, PolicySpec(**{**asdict(SPEC), "network": network}))
    with pytest.raises(CheckpointError, match="do not fit the architecture") as caught:
        load_policy(folder)
    assert "\n" not in str(caught.value)
