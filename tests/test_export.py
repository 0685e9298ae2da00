"""What an export holds: the policy's own numbers through onnxruntime alone, and the contract to use them by."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file
from tiny_checkpoint import CASES, make_case, make_checkpoint
from tiny_run import call, start

from envs.tasks import TASKS
from policy import exporting
from tools import export
from tools.benchmark import latency
from tools.contract import task_contract


def ask(path, **inputs):
    session = onnxruntime.InferenceSession(path)
    assert {entry.name for entry in session.get_inputs()} == set(inputs)
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]


@pytest.fixture(scope="module")
def samplers(tmp_path_factory):
    """A sampler a case, from a process of its own: torch cannot trace what checks shapes and types here."""
    folder = tmp_path_factory.mktemp("samplers")
    script = Path(__file__).with_name("tiny_checkpoint.py")
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("case", range(len(CASES)), ids=["-".join(map(str, case)) for case in CASES])
def test_the_sampler_is_the_policy(samplers, case):
    policy = make_case(case)
    generator = torch.Generator().manual_seed(3)
    for size in (1, 5):
        observations = 6 * torch.rand((size, 2, 3), generator=generator) - 3  # outside the bounds of 2 as well
        task = torch.randint(2, (size,), generator=generator)
        noise = torch.randn((size, 3, 2), generator=generator)
        expected = policy.plan(observations, task, noise).numpy()
        found = ask(samplers / f"{case}.onnx", observations=observations, task=task, noise=noise)
        assert (np.abs(expected) < 1).mean() > 0.1  # bounds hide differences
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    """The folder that the entry point writes."""
    folder = tmp_path_factory.mktemp("exports") / "mine"
    process = start([f"checkpoint={source[0]}", f"output={folder}"], None, "tools.export")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert list(folder.parent.iterdir()) == [folder]
    return folder


def test_a_robot_needs_the_folder_alone(source, exported):
    """Actions from config.json, numpy and onnxruntime are the policy's."""
    about = json.loads((exported / "config.json").read_text())
    contract = about["tasks"][1]
    rng = np.random.default_rng(0)
    seen = {part["key"]: rng.uniform(part["low"], part["high"], (2, part["size"])) for part in contract["observation"]}
    flat = np.concatenate([seen[part["key"]] for part in contract["observation"]], axis=1).astype(np.float32)
    observations = np.pad(flat, [(0, 0), (0, contract["padded_observation_size"] - flat.shape[1])])[None]
    noise = rng.standard_normal((1, contract["action_steps"], contract["action_size"]), dtype=np.float32)
    inputs = {"observations": observations, "task": np.array([contract["index"]]), "noise": noise}
    (found,) = onnxruntime.InferenceSession(exported / "sampler.onnx").run(None, inputs)
    expected = source[1].plan(*(torch.from_numpy(value) for value in inputs.values()))
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4)


def test_the_denoiser_is_the_network(source, exported):
    policy, generator = source[1], torch.Generator().manual_seed(0)
    sample = torch.randn((5, 4, 7), generator=generator)
    step = torch.randint(20, (5,), generator=generator)
    condition = torch.randn((5, 2 * 23 * 3 + 2), generator=generator)
    found = ask(exported / "denoiser.onnx", sample=sample, step=step, condition=condition)
    expected = policy.network(sample, step, condition).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_the_weights_and_the_contract(source, exported):
    assert {path.name for path in exported.iterdir()} == {
        "README.md", "config.json", "model.safetensors", "denoiser.onnx", "sampler.onnx",
    }  # fmt: skip
    weights = load_file(exported / "model.safetensors")
    assert weights.keys() == source[1].state_dict().keys()
    assert all(np.array_equal(weights[name], value.numpy()) for name, value in source[1].state_dict().items())
    about = json.loads((exported / "config.json").read_text())
    assert 0 <= about["largest_difference"] <= 1e-4
    readme = (exported / "README.md").read_text()
    for contract, task in zip(about["tasks"], (TASKS["lift"], TASKS["can"]), strict=True):
        assert {part["key"]: part["size"] for part in contract["observation"]} == task.sizes
        assert np.array_equal([low for part in contract["observation"] for low in part["low"]], task.low)
        assert sum(part["size"] for part in contract["action"]) == task.action_size
        assert contract["control_hz"] == 20
        section = readme.split(f"## {task.name}")[1]
        assert [section.index(f"`{key}`") for key in task.sizes] == sorted(section.index(f"`{k}`") for k in task.sizes)
    assert "| 19-22 | | padding: zeros" in readme
    assert "Execute the first 2 of the 4 actions" in readme


@pytest.mark.parametrize(("input_frame", "said"), [("base", "robot's base frame"), ("world", "world frame")])
def test_the_contract_names_the_frame_of_the_actions(source, input_frame, said):
    parts = task_contract(TASKS["lift"], source[1], 0, input_frame)["action"]
    assert [said in part["meaning"] for part in parts] == [True, True, False]


def test_a_file_that_differs_is_refused(exported, tmp_path):
    other = make_checkpoint(tmp_path)[1]
    assert exporting.check_export(other, exported) <= 1e-4
    other.network.leave.bias.data += 0.01
    with pytest.raises(ValueError, match=r"denoiser.onnx differs from the policy by 1.0e-02, more than 1e-04"):
        exporting.check_export(other, exported)


def test_a_failed_check_leaves_nothing(source, exported, tmp_path, monkeypatch, capsys):
    def copy(module, example, names, path):
        path.write_bytes((exported / path.name).read_bytes())

    monkeypatch.setattr(exporting, "_export", copy)
    arguments = [f"checkpoint={source[0]}", f"output={tmp_path / 'mine'}"]
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "TOLERANCE", -1.0)
        assert call(export.main, arguments, patch) == 2
    assert "differs from the policy by" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert call(export.main, arguments, monkeypatch) == 0
    assert "lift, can; differs from the policy by at most" in capsys.readouterr().out


def test_bad_input_gives_one_line(source, exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "_export", lambda *_: pytest.fail("it went to work"))
    for arguments, said in (
        ([], "checkpoint= is missing"),
        (["checkpoint=nowhere"], "nowhere: no checkpoint here"),
        ([f"checkpoint={source[0]}", f"output={exported}"], "is there already"),
        ([f"checkpoint={source[0]}", "ouput=x"], "did you mean 'output'"),
    ):
        assert call(export.main, arguments, monkeypatch) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert said in lines[0]
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else name)
    assert call(export.main, [f"checkpoint={source[0]}", f"output={tmp_path / 'x'}"], monkeypatch) == 2
    assert "onnxscript not installed: pip install 'reconverge[export]'" in capsys.readouterr().err


def test_the_benchmark_of_latency(source, exported, monkeypatch):
    monkeypatch.setattr(latency, "ROUNDS", 1)
    result = latency.compare(source[1], exported, cores=1) | latency.through_socket(source[0], "lift")
    for name in ("torch_ms", "onnx_ms", "socket_ms", "server_ms"):
        assert 0 < result[name]["p50"] <= result[name]["p99"], name
    assert result["server_ms"]["p50"] < result["socket_ms"]["p50"]
