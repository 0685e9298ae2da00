"""Every tensor of a run on a GPU lies there, though there is no GPU."""

import json
import os

import pytest
import torch

from reconverge.policy import evaluate, train
from reconverge.policy.continual.kronecker import KroneckerForm
from reconverge.policy.continual.methods import METHODS
from reconverge.policy.images import picture_run
from reconverge.policy.runs import execution, loading
from reconverge.tools import images
from support.picture_files import make_folders
from support.pretend import Generator, WrongDevice, place, pretending
from support.tiny_run import OPTIONS, call, shorten

METHOD = list(METHODS) if os.environ.get("ALL_TASKS") else ["trust_region"]
KNOW_ALL = ("packnet", "multitask")  # the tasks before the first
TASKS = ["push", "window-close"]


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    return tmp_path_factory.mktemp("demonstrations")


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that there is not."""
    for module in (loading, execution, picture_run):
        monkeypatch.setattr(module, "find_device", lambda name: torch.device("cuda"))
    with pretending(monkeypatch):
        yield


def test_a_run_on_a_gpu_notices_a_boundary(gpu, demonstrations, tmp_path, monkeypatch):
    where = [f"demonstrations.path={demonstrations}", f"hydra.run.dir={tmp_path / 'run'}"]
    untold = ["boundaries=detected", "task_conditioning=none", "updates_per_task=250"]
    both = [f"env={','.join(TASKS)}", "optimizer.learning_rate=1e-2"]
    shorten(monkeypatch, 120, *TASKS)
    assert call(train.main, [*both, *OPTIONS, *where, *untold], monkeypatch) == 0
    assert (
        call(train.main, [f"resume={tmp_path / 'run'}", "updates_per_task=253"], monkeypatch) == 0
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [task for task, _ in summary["boundaries"]] == [1]


@pytest.mark.parametrize("method", METHOD)
def test_a_run_on_a_gpu_ends_goes_on_and_is_evaluated(
    gpu, method, demonstrations, tmp_path, monkeypatch
):
    where = [f"demonstrations.path={demonstrations}", f"hydra.run.dir={tmp_path / 'run'}"]
    both = f"env={','.join(TASKS)}"
    arguments = [
        both if method in KNOW_ALL else f"env={TASKS[0]}",
        *OPTIONS,
        *where,
        f"method={method}",
    ]
    if method != "trust_region":  # that one as it is by default
        arguments = [each for each in arguments if not each.startswith("replay.")]
        arguments += ["replay=demonstrations", "replay.batch_size=16", "replay.pool=32"]
    shorten(monkeypatch, 120, *TASKS)  # enough for the experts
    assert call(train.main, arguments, monkeypatch) == 0
    going_on = [both] if method not in KNOW_ALL else ["updates_per_task=14"]
    assert call(train.main, [f"resume={tmp_path / 'run'}", *going_on], monkeypatch) == 0
    arguments = [f"checkpoint={tmp_path / 'run'}", f"env={TASKS[1]}", "n_rollouts=1", "workers=1"]
    assert call(evaluate.main, arguments, monkeypatch) == 0
    told = json.loads((tmp_path / "run" / "summary.json").read_text())["hardware"]
    assert (told["device"], told["precision"]) == ("cuda", "float32, convolutions in TF32")
    assert place(loading.load_policy(tmp_path / "run", "cuda").policy.normalizer.low) == "cuda"


def test_pictures_are_learned_on_a_gpu(gpu, tmp_path, monkeypatch):
    sizes = ["size=8", "network.channels=[8,8]", "updates_per_task=6", "batch_size=4"]
    short = ["diffusion.num_train_timesteps=20", "diffusion.num_inference_steps=2"]
    few = ["evaluation.n_rollouts=6", "evaluation.probe_rollouts=4", "fisher.samples=8"]
    replay = ["replay.batch_size=4", "replay.pool=8", "optimizer.warmup=2", "report=false"]
    where = [f"data={make_folders(tmp_path / 'shapes')}", f"pictures={tmp_path / 'stores'}"]
    folder = tmp_path / "run"
    arguments = [*where, f"hydra.run.dir={folder}", *sizes, *short, *few, *replay]
    assert call(images.main, arguments, monkeypatch) == 0
    assert json.loads((folder / "summary.json").read_text())["hardware"]["device"] == "cuda"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.cat([torch.zeros(0), x]),
        lambda x: x[0].item() + x.numpy(),
        lambda x: x @ torch.from_numpy(torch.ones(3).numpy()),
        lambda x: torch.rand(3, device="cuda", generator=Generator()),
        lambda x: torch.zeros(3).copy_(x) + x,
        lambda x: torch.ones(3) * 2 + x,
        lambda x: x.cpu().clone() + x,
        lambda x: x + torch.cat([torch.ones(1), torch.ones(2)]),
    ],
)
def test_what_a_gpu_refuses_is_refused(gpu, wrong):
    with pytest.raises(WrongDevice):
        wrong(torch.ones(3, device="cuda"))


def test_what_a_gpu_takes_is_taken(gpu):
    x = torch.ones(3, device="cuda")
    for each in (x * 2, x + torch.tensor(1.0), x[torch.tensor([0, 2])], x.double(), x.clone()):
        assert place(each) == "cuda"
    assert place(x.cpu()) == "cpu"
    assert x.cpu().numpy().sum() == 3
    assert len(KroneckerForm().spectrum()) == 0
