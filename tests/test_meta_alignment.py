"""The tool on a real run of two tasks; its Fisher product against per-sample gradients."""

import json
import sys

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tiny import make_policy, make_windows
from tiny_run import call, make_demonstrations, options

from policy.fisher import Rank1
from policy.flat import concatenate
from policy.methods.base import half_squared_errors, noisy_sample, random_stream
from policy.train import main as train
from tools import meta_alignment


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alignment")
    demonstrations = make_demonstrations(folder / "demonstrations", ["lift", "can"])
    with pytest.MonkeyPatch.context() as patch:
        assert call(train, options(demonstrations, folder / "run"), patch) == 0
    return folder / "run"


def measured(run, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["meta_alignment", str(run), *arguments])
        meta_alignment.main()
    return json.loads((run / "meta_alignment.json").read_text())


def test_every_earlier_task_is_compared_after_every_task(run):
    found = measured(run, "--windows", "64")
    assert [(row["after"], row["task"], row["since"]) for row in found["pairs"]] == [("can", "lift", 1)]
    row = found["pairs"][0]
    assert all(-1 <= row[name] <= 1 for name in row if name.startswith("cosine"))
    assert all(row[name] >= 0 for name in row if name.startswith("error"))
    assert Image.open(run / "plots" / "meta_alignment.png").width > 1000


def test_a_smaller_inner_step_is_closer_to_first_order(run):
    errors = [
        measured(run, "--windows", "64", "--inner-rate", rate)["pairs"][0]["error_first_order"]
        for rate in ("1.0", "0.1")
    ]
    assert errors[1] < errors[0] / 5


def test_the_product_is_that_of_the_per_sample_gradients():
    policy, stream = make_policy(), random_stream(torch.device("cpu"), 0)
    sample = noisy_sample(policy, make_windows(0, 8), stream)
    params = {name: p.detach() for name, p in policy.network.named_parameters()}
    each = half_squared_errors(policy)
    rows = torch.stack(
        [
            concatenate(torch.func.grad(lambda p, n=n: each(p, tuple(x[n : n + 1] for x in sample)).sum())(params))
            for n in range(8)
        ]
    )
    v = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0))
    product = meta_alignment._product(policy, concatenate(params), sample)(v)
    torch.testing.assert_close(product, rows.T @ (rows @ v) / 8, rtol=1e-4, atol=1e-5)
    centre = concatenate(params) + 1.0
    penalty = meta_alignment._fisher(Rank1(), policy, sample, centre)
    mu = rows.mean(0)
    curvature = (rows @ mu).square().mean() / mu.norm() ** 4
    theta = centre + 0.01 * v
    torch.testing.assert_close(penalty(theta), curvature * mu * (0.01 * mu @ v), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [(["--inner-rate", "0"], "positive rate"), (["--windows", "0"], "at least 1 window")],
)
def test_bad_arguments_are_named(run, change, said, capsys):
    with pytest.raises(SystemExit) as exit:
        measured(run, *change)
    assert exit.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("method.name", "ewc"), ("method.name", "single"), ("replay.source", "none"), ("method.distillation_weight", 0)],
)
def test_a_run_without_replay_is_refused(run, tmp_path, option, value, capsys):
    config = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(config, option, value)
    OmegaConf.save(config, tmp_path / "config.yaml")
    with pytest.raises(SystemExit) as exit:
        measured(tmp_path)
    assert exit.value.code == 2
    assert "rehearses no earlier task" in capsys.readouterr().err


def test_no_run_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        measured(tmp_path)
    assert exit.value.code == 2
    assert "give the directory of a run" in capsys.readouterr().err
