"""A policy that learns to see: trained end to end on stored pictures, resumed, found again in its
checkpoint, exported and served.
"""

import json

import msgpack
import numpy as np
import pytest
import torch

from reconverge.datasets.store import DemonstrationStore
from reconverge.errors import ReconvergeError
from reconverge.policy.deployment.contract import make_contract
from reconverge.policy.deployment.package import load_package
from reconverge.policy.deployment.robot import Policy
from reconverge.policy.deployment.session import Latency, Session
from reconverge.policy.model.encoders.resnet import Seeing
from reconverge.policy.reports.meta_gradient import measure_run
from reconverge.policy.runs.loading import load_policy
from reconverge.policy.train import main
from support.tiny_run import OPTIONS, call, export, shorten

GENERATOR = ("replay.updates", "replay.network", "replay.diffusion", "fisher.samples")
SIZES = [each for each in OPTIONS if not each.startswith(GENERATOR)]
SEEING = [
    "observations=both",  # the state beside pictures: of another size for each task
    "cameras=[agentview,eye_in_hand]",
    "picture_size=16",
    "encoder=resnet18",
    "encoder.width=16",
    "encoder.reduction=8",
    "encoder.crop=2",
    "encoder.keypoints=4",
    "n_action_steps=4",
    "replay=demonstrations",
    "replay.budget=1",
    "fisher.samples=16",
]
PIXELS = 2 * 3 * 16 * 16


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    return tmp_path_factory.mktemp("demonstrations")


@pytest.fixture(scope="module")
def run(tmp_path_factory, demonstrations):
    """A run that learned lift, and went on with stack."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    where = [f"demonstrations.path={demonstrations}", f"hydra.run.dir={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch, 120, "lift", "stack")  # enough for the experts
        assert call(main, ["env=lift", *SIZES, *SEEING, *where], patch) == 0
        assert call(main, [f"resume={folder}", "env=lift,stack"], patch) == 0
    return folder


def test_the_expert_records_pictures_once_in_a_store_like_any_other(run, demonstrations):
    (store,) = demonstrations.glob("lift.pixels-*.zarr")
    found = DemonstrationStore.open(store)
    assert found.pictures == dict.fromkeys(("agentview", "eye_in_hand"), (16, 16, 3))
    assert "agentview_image" not in found.observation_sizes


def test_the_encoder_is_a_part_of_the_network_that_learns(run):
    policy = load_policy(run).policy
    assert isinstance(policy.network, Seeing)
    scale = policy.network.eyes[0].trunk.bn1.weight
    assert not scale.eq(1).all()  # as it began
    facts = json.loads((run / "summary.json").read_text())
    assert facts["parameters"] == sum(p.numel() for p in policy.network.parameters())
    assert facts["options"]["sight"]["encoder"]["name"] == "resnet18"


@pytest.fixture(scope="module")
def acting(run):
    """What a task's actor is shown and answers: an observation, and its first actions."""
    loaded = load_policy(run)
    task = loaded.tasks[0]
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (2, 16, 16, 3), np.uint8)
    told = {
        key: np.float32(low)
        for key, (low, _) in task.observations.items()
        if not key.endswith("_image")
    }
    flat = np.concatenate([*told.values(), pictures.ravel()]).astype(np.float32)
    actor = loaded.actor(task, rows=1)
    actor.begin(0, 5)
    history = np.stack([flat] * actor.n_obs_steps)[None]
    images = dict(zip(("agentview_image", "eye_in_hand_image"), pictures, strict=True))
    return loaded, task, told, images, actor.act([0], history)[0]


def test_padding_comes_before_the_pixels(acting):
    loaded, task, *_ = acting
    assert loaded.spec.pixels == PIXELS
    row = loaded.policy.normalizer.high[task.index]
    assert row[-PIXELS:].eq(255).all()
    assert row[task.observation_size - PIXELS : -PIXELS].eq(0).all()
    assert loaded.spec.observation_size > task.observation_size


def test_what_a_picture_shows_matters(acting):
    loaded, task, told, _, wanted = acting
    actor = loaded.actor(task, rows=1)
    actor.begin(0, 5)
    gray = np.full(PIXELS, 120, np.float32)
    flat = np.concatenate([*told.values(), gray]).astype(np.float32)
    other = actor.act([0], np.stack([flat] * actor.n_obs_steps)[None])[0]
    assert np.abs(other - wanted).max() > 1e-4


def test_its_server_takes_pictures(acting):
    loaded, task, told, images, wanted = acting
    contract = make_contract(task, loaded.policy)
    session = Session(loaded.policy, contract, Latency(), sight=task.sight)
    session.answer(msgpack.packb({"type": "reset", "seed": 5}))
    shown = {key: picture.tobytes() for key, picture in images.items()}
    told = {key: values.tolist() for key, values in told.items()}
    reply = session.answer(msgpack.packb({"type": "act", "observation": {**told, **shown}}))
    np.testing.assert_allclose(reply["actions"], wanted, atol=1e-5)


def test_it_acts_elsewhere_with_onnxruntime_alone(acting, tmp_path):
    loaded, task, told, images, _ = acting
    folder = tmp_path / "exported"
    export(loaded.path, folder)
    assert not (folder / "encoder.onnx").exists()
    assert load_package(folder).encoder is None
    assert "the pixels, row by row" in (folder / "README.md").read_text()
    policy = Policy(folder, task=task.label)
    flat = policy.flatten({**told, **images})
    noise = np.random.default_rng(1).standard_normal((4, 7), dtype=np.float32)
    found = policy.plan(np.stack([flat] * 2), noise)
    seen = torch.from_numpy(np.stack([flat] * 2)[None])
    number = torch.tensor([task.index])
    wanted = loaded.policy.plan(seen, number, torch.from_numpy(noise[None]))
    np.testing.assert_allclose(found, wanted[0], atol=1e-4)


def test_its_steps_compare_with_the_meta_gradient(run):
    with pytest.raises(ReconvergeError, match=r"windows=65: .* add --windows 64"):
        measure_run(run, 1e-3, 65)
    _, (pair,) = measure_run(run, 1e-3, 2)
    assert (pair["after"], pair["task"]) == ("stack", "lift")
    assert np.isfinite(pair["cosine_kfac"])


def overriding(option):
    """The options with another value of one of them."""
    name = option.partition("=")[0]
    return [*(each for each in SEEING if each.partition("=")[0] != name), option]


@pytest.mark.parametrize("replay", ["generator", "rollout"])
def test_replay_without_pictures_is_refused(replay, demonstrations, tmp_path, monkeypatch, capsys):
    arguments = [each for each in SEEING if not each.startswith("replay")]
    arguments += [f"replay={replay}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert call(main, arguments, monkeypatch) == 2
    said = capsys.readouterr().err
    assert f"replay={replay}: has no pictures" in said
    assert "replay=demonstrations replay.budget=" in said


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("encoder.width=24", "encoder.width=24: must be a multiple of 16"),
        ("encoder.reduction=9", "encoder.reduction=9: must be one of 8, 16, 32"),
        ("encoder.reduction=32", "leaves one place of a picture of 16 pixels"),
        ("encoder.crop=8", "encoder.crop=8: must be less than half of picture_size=16"),
    ],
)
def test_sizes_that_there_are_not_are_refused(option, said, monkeypatch, capsys, tmp_path):
    assert call(main, [*overriding(option), f"hydra.run.dir={tmp_path / 'run'}"], monkeypatch) == 2
    assert said in capsys.readouterr().err
