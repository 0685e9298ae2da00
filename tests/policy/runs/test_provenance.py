"""What a summary says of the machine."""

import torch

from reconverge.policy.runs.provenance import hardware, precision_told


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
