"""What a summary says of the machine."""

import torch

from reconverge.policy.runs.provenance import precision_told


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
