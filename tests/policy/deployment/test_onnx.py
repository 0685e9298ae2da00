"""The policy's own numbers through onnxruntime alone."""

import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from reconverge.errors import ReconvergeError
from reconverge.policy.deployment import onnx
from support import ROOT
from support.tiny_checkpoint import CASES, make_case


def ask(path, **inputs):
    session = onnxruntime.InferenceSession(path)
    assert {entry.name for entry in session.get_inputs()} == set(inputs)
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]


@pytest.fixture(scope="module")
def samplers(tmp_path_factory):
    """A sampler a case, from a process of its own: torch cannot trace what checks shapes and types
    here.
    """
    folder = tmp_path_factory.mktemp("samplers")
    script = ROOT / "tests" / "support" / "tiny_checkpoint.py"
    tests = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True, env=tests)
    return folder


@pytest.mark.parametrize(
    "case", range(len(CASES)), ids=["-".join(map(str, case)) for case in CASES]
)
def test_export_sampler_gives_the_policys_actions(samplers, case):
    policy = make_case(case)
    generator = torch.Generator().manual_seed(3)
    for size in (1, 5):
        observations = (
            6 * torch.rand((size, 2, 3), generator=generator) - 3
        )  # outside the bounds of 2 as well
        task = torch.randint(2, (size,), generator=generator)
        noise = torch.randn((size, 3, 2), generator=generator)
        expected = policy.plan(observations, task, noise).numpy()
        found = ask(samplers / f"{case}.onnx", observations=observations, task=task, noise=noise)
        assert (np.abs(expected) < 1).mean() > 0.1  # bounds hide differences
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_require_packages_says_what_to_install():
    onnx.require_packages()
    said = r"no_onnxscript, no_onnxruntime not installed: pip install 'reconverge\[export\]'"
    with pytest.raises(ReconvergeError, match=said):
        onnx.require_packages(["onnx", "no_onnxscript", "no_onnxruntime"])
