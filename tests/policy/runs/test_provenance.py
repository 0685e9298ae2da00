"""What a summary says of the machine."""

import shutil
import subprocess
from importlib.util import module_from_spec, spec_from_file_location

import pytest
import torch

from reconverge.policy.runs import provenance
from reconverge.policy.runs.provenance import hardware, precision_told


@pytest.fixture
def repository(tmp_path):
    """A git repository that ignores `.venv/`; runs git in it and returns what it says."""

    def git(*arguments):
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", tmp_path, *author, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / ".gitignore").write_text(".venv/\n")
    return git


def loaded(folder):
    """The module, loaded from a copy in `folder`."""
    folder.mkdir(exist_ok=True)
    spec = spec_from_file_location("loaded", shutil.copy(provenance.__file__, folder))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_commit_is_that_of_this_code(repository, tmp_path):
    (tmp_path / "linked").symlink_to("runs")
    checkout, installed = loaded(tmp_path / "runs"), loaded(tmp_path / ".venv")
    repository("add", ".")
    repository("commit", "--quiet", "--message", "x")
    assert checkout.commit() == repository("rev-parse", "--short=12", "HEAD")
    assert loaded(tmp_path / "linked").commit() == checkout.commit()
    assert installed.commit() is None
    (tmp_path / "runs" / "provenance.py").write_text("")
    assert checkout.commit().endswith("+")


def test_precision_told_says_what_a_gpu_rounds():
    gpu, convolutions = torch.device("cuda"), torch.backends.cudnn.conv
    assert precision_told(gpu, "float32") == "float32, convolutions in TF32"
    assert precision_told(gpu, "bfloat16") == "bfloat16"
    assert precision_told(torch.device("cpu"), "float32") == "float32"
    convolutions.fp32_precision = "ieee"
    try:
        assert precision_told(gpu, "float32") == "float32"
        torch.set_float32_matmul_precision("high")
        assert precision_told(gpu, "float32") == "float32, matrix products in TF32"
    finally:
        torch.set_float32_matmul_precision("highest")
        convolutions.fp32_precision = "tf32"


def test_a_gpu_that_cannot_be_used_is_none(monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA driver initialization failed")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", fail)
    assert hardware()["gpu"] is None
