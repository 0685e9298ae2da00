"""A policy that sees: trained, found again in its checkpoint, and served."""

import io
import json
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from PIL import Image

from reconverge.envs.catalog import TASKS
from reconverge.errors import ReconvergeError
from reconverge.policy.deployment.client import MAX_BYTES, PolicyClient, PolicyError
from reconverge.policy.deployment.contract import Contract, make_contract
from reconverge.policy.deployment.observation import Reader
from reconverge.policy.deployment.openpi import read_history
from reconverge.policy.deployment.session import Latency, Session
from reconverge.policy.reports.footage import Performer, film
from reconverge.policy.runs.checkpoint import CheckpointError
from reconverge.policy.runs.loading import load_policy
from reconverge.policy.train import main
from support.serving import serving
from support.tiny_run import OPTIONS, call, shorten

GRAY = np.full((32, 32, 3), 120, np.uint8)
SEEING = ["env=lift", "observations=pixels", "cameras=[agentview]", "picture_size=32"]


def as_file(picture, kind):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("sighted")
    arguments = [*SEEING, *OPTIONS, f"demonstrations.path={root / 'demonstrations'}"]
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch, 120, "lift")  # enough for the expert
        assert call(main, [*arguments, f"hydra.run.dir={root / 'run'}"], patch) == 0
    return root / "run"


def test_its_options_say_what_it_sees(run):
    sight = json.loads((run / "summary.json").read_text())["options"]["sight"]
    assert sight["cameras"] == ["agentview"]
    assert sight["encoder"]["name"] == "efficientnet_lite0"


def test_a_checkpoint_knows_how_its_policy_sees(run):
    loaded = load_policy(run)
    (task,) = loaded.tasks
    assert list(task.observations)[-1] == "agentview_features"
    assert task.sight.view.size == 32
    actor = loaded.actor(task)
    actor.begin(0, 1)
    chunk = actor.act([0], np.zeros((1, actor.n_obs_steps, task.observation_size), np.float32))
    assert chunk.shape == (1, 4, 7)


def without_its_palette():
    """A PNG file that Pillow opens, and then fails in an assertion."""
    file = io.BytesIO()
    Image.fromarray(GRAY).convert("P").save(file, "PNG", transparency=3)
    before, _, after = file.getvalue().partition(b"PLTE")
    length = int.from_bytes(before[-4:], "big")
    return before[:-4] + after[length + 4 :]  # 4: the chunk's checksum


@pytest.fixture(scope="module")
def served(run):
    """A session, and what it must say: the actor's actions for a gray picture and a resting arm."""
    loaded = load_policy(run)
    (task,) = loaded.tasks
    contract = make_contract(task, loaded.policy)
    session = Session(loaded.policy, contract, Latency(), sight=task.sight)
    told = {entry.key: entry.low for entry in contract.observation}
    flat = [bound for entry in contract.observation for bound in entry.low]
    observation = np.concatenate([flat, task.sight.features(GRAY[None, None])[0]])
    actor = loaded.actor(task, rows=1)
    actor.begin(0, 5)
    history = np.stack([observation] * actor.n_obs_steps)[None].astype(np.float32)
    return session, contract, told, actor.act([0], history)[0]


def act(session, told, picture):
    session.answer(msgpack.packb({"type": "reset", "seed": 5}))
    observation = told if picture is None else {**told, "agentview_image": picture}
    return session.answer(msgpack.packb({"type": "act", "observation": observation}))


def test_its_contract_asks_for_pictures_and_not_for_features(served):
    _, contract, told, _ = served
    assert [(each.key, each.height, each.width) for each in contract.pictures] == [
        ("agentview_image", 32, 32)
    ]
    assert list(told) == ["robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]
    assert Contract.from_json(json.loads(json.dumps(contract.to_json())), "here") == contract


@pytest.mark.parametrize("kind", ["raw", "PNG", "JPEG"])
def test_its_server_takes_pictures(served, kind):
    session, _, told, wanted = served
    picture = GRAY.tobytes() if kind == "raw" else as_file(GRAY, kind)
    reply = act(session, told, picture)
    np.testing.assert_allclose(reply["actions"], wanted, atol=0.05 if kind == "JPEG" else 1e-6)


@pytest.mark.parametrize(
    "picture",
    [
        None,
        b"",
        GRAY.tobytes()[:-1],
        as_file(GRAY[:16], "PNG"),
        as_file(GRAY, "PNG")[:40],
        without_its_palette(),
        [1, 2, 3],
        "agentview",
    ],
)
def test_its_server_refuses_other_pictures(served, picture):
    session, _, told, _ = served
    reply = act(session, told, picture)
    assert reply["type"] == "error"
    assert "give 32 rows of 32 pixels" in reply["message"]


def test_the_client_refuses_pictures_of_another_shape(run, served):
    """Bytes do not tell [3, H, W] from [H, W, 3]."""
    _, _, told, wanted = served
    with serving(load_policy(run)) as port, PolicyClient(port=port) as client:
        client.reset(5)
        for other in (GRAY.transpose(2, 0, 1), np.zeros((480, 640, 3), np.uint8)):
            with pytest.raises(PolicyError, match=r"give a picture of shape \(32, 32, 3\), got \("):
                client.act({**told, "agentview_image": other})
        found = client.act({**told, "agentview_image": GRAY})
    np.testing.assert_allclose(found, wanted[0], atol=1e-6)


def test_its_server_takes_the_arrays_of_openpis_clients(run, served):
    _, contract, told, _ = served
    (task,) = load_policy(run).tasks
    reader = Reader(contract, task.sight)
    told = {key: np.array(values) for key, values in told.items()}
    still = read_history({**told, "agentview_image": GRAY}, reader)
    moving = {key: np.stack([values] * 2) for key, values in told.items()}
    two = read_history({**moving, "agentview_image": np.stack([GRAY, GRAY])}, reader)
    assert still.shape == (2, 9 + 80)
    np.testing.assert_array_equal(still, two)
    files = {**moving, "agentview_image": [as_file(GRAY, "PNG")] * 2}
    np.testing.assert_array_equal(still, read_history(files, reader))


def test_two_pictures_of_two_steps_fit_a_message():
    assert MAX_BYTES // 4 > 2 * 2 * 3 * 84 * 84


def test_an_encoder_with_other_weights_is_told(run):
    spec = load_policy(run).spec
    other = {**spec.sight["fingerprint"], "encoder": {"name": "another"}}
    with pytest.raises(CheckpointError, match="install the packages of its run"):
        replace(spec, sight={**spec.sight, "fingerprint": other}).task("lift")


def test_it_is_not_filmed_beside_a_policy_that_is_told_the_state(run, tmp_path):
    loaded = load_policy(run)
    (task,) = loaded.tasks
    performers = [Performer("", each, loaded.actor) for each in (task, TASKS["lift"])]
    with pytest.raises(ReconvergeError, match="they do not observe the same"):
        film(performers, tmp_path / "a.mp4", range(1))
