"""openpi's own client at our server."""

import urllib.error
import urllib.request
from contextlib import suppress

import msgpack
import numpy as np
import pytest
from openpi_client import action_chunk_broker, msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from reconverge.envs.catalog import TASKS
from reconverge.policy.deployment.client import MAX_BYTES, PolicyClient
from reconverge.policy.model.actor import PolicyActor
from support.serving import MIDDLE, serving
from support.tiny_checkpoint import make_checkpoint

SECRET = "correct horse battery staple"
HOST = "127.0.0.1"
ARRAYS = {key: np.array(value) for key, value in MIDDLE.items()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def port(source):
    with serving(source) as port:
        yield port


@pytest.fixture
def client(port):
    client = WebsocketClientPolicy(HOST, port)
    yield client
    client._ws.close()


@pytest.fixture(scope="module")
def observations():
    """Five observations [Do] within lift's bounds."""
    rng, task = np.random.default_rng(0), TASKS["lift"]
    return rng.uniform(task.low, task.high, (5, task.observation_size)).astype(np.float32)


def raw(port, **options):
    return connect(f"ws://{HOST}:{port}", compression=None, **options)


def test_infer_gives_the_plans_of_the_policy(source, client, observations):
    actor = PolicyActor(source.policy, 0, rows=1)
    actor.begin(0, seed=0)
    for observation in observations:
        expected = actor.plan([0], np.stack([observation] * 2)[None])[0]
        found = client.infer({**TASKS["lift"].split(observation), "prompt": "lift the cube"})
        assert found["actions"].shape == (4, 7)
        np.testing.assert_array_equal(found["actions"], expected)
        assert found["server_timing"]["infer_ms"] > 0


def test_infer_takes_the_history_that_it_is_given(source, client, observations):
    actor = PolicyActor(source.policy, 0, rows=1)
    actor.begin(0, seed=0)
    expected = actor.plan([0], observations[None, :2])[0]
    before, now = (TASKS["lift"].split(observation) for observation in observations[:2])
    found = client.infer({key: np.stack([before[key], now[key]]) for key in now})["actions"]
    np.testing.assert_array_equal(found, expected)


def test_both_protocols_give_the_same_first_actions(port, client):
    with PolicyClient(port=port) as ours:
        ours.reset(0)
        np.testing.assert_array_equal(client.infer(ARRAYS)["actions"][0], ours.act(MIDDLE))


def test_metadata_is_the_contract(port, client):
    with PolicyClient(port=port) as ours:
        assert {"type": "contract", **client.get_server_metadata()} == ours.contract


def test_infer_works_with_the_chunk_broker(client):
    broker = action_chunk_broker.ActionChunkBroker(client, action_horizon=2)
    assert [broker.infer(ARRAYS)["actions"].shape for _ in range(5)] == [(7,)] * 5


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_infer_reads_types_of_numbers(port, dtype):
    found = [
        WebsocketClientPolicy(HOST, port).infer(
            {key: value.astype("float16").astype(kind) for key, value in ARRAYS.items()}
        )["actions"]
        for kind in ("float64", dtype)
    ]
    np.testing.assert_array_equal(*found)


def changed(**changes):
    observation = {**ARRAYS, **changes}
    return {key: value for key, value in observation.items() if value is not None}


def array(data=b"\0" * 12, dtype="<f4", shape=(3,), **others):
    return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape, **others}


REFUSED = [
    (changed(object=None), "observation lacks 'object'; give object, robot0_eef_pos"),
    (changed(robot0_eef_pso=np.zeros(3)), "unknown observation key 'robot0_eef_pso'"),
    (changed(**{"k" * 5000: 1.0}), "unknown observation key"),
    (changed(robot0_eef_pos=np.zeros(2)), "'robot0_eef_pos': give a list of 3 numbers"),
    (changed(robot0_eef_pos=np.zeros((2, 3))), "'robot0_eef_pos': give a list of 3 numbers"),
    (changed(robot0_eef_pos=np.zeros((0, 3))), "give a list of 3 numbers, got 0 of them"),
    (changed(robot0_eef_pos=np.array(0.0)), "give a list of 3 numbers, got 0.0"),
    (changed(robot0_eef_pos=np.float32(0.0)), "give a list of 3 numbers, got 0.0"),
    (changed(robot0_eef_pos=np.full(3, np.nan)), "holds nan: give finite numbers"),
    (changed(robot0_eef_pos=["0", "1", "2"]), "holds '0': give finite numbers"),
    ({key: np.stack([value] * 3) for key, value in ARRAYS.items()}, "give 2 steps, got 3"),
    (changed(robot0_eef_pos=np.array([True] * 3)), "an array that cannot be read (type '|b1'"),
    (changed(robot0_eef_pos=array(dtype="|O")), "an array that cannot be read (type '|O'"),
    (changed(robot0_eef_pos=array(dtype="(1000000,)f8")), "an array that cannot be read (type"),
    (changed(robot0_eef_pos=array(dtype="f1")), "an array that cannot be read"),
    (changed(robot0_eef_pos=array(dtype=None)), "an array that cannot be read"),
    (changed(robot0_eef_pos=array(data=b"\0" * 11)), "an array that cannot be read"),
    (changed(robot0_eef_pos=array(data="text")), "an array that cannot be read"),
    (changed(robot0_eef_pos=array(shape=[2**62, 3])), "an array that cannot be read"),
    (changed(robot0_eef_pos=array(shape=["3"])), "an array that cannot be read"),
    ([1.0, 2.0], "message [1.0, 2.0]: give a map"),
    ({}, "observation lacks 'object'"),
]


@pytest.mark.parametrize(("message", "said"), REFUSED, ids=range(len(REFUSED)))
def test_infer_says_in_one_line_what_is_wrong(client, message, said):
    with pytest.raises(RuntimeError) as error:
        client.infer(message)
    text = str(error.value).removeprefix("Error in inference server:\n")
    assert said in text
    assert len(text) < 300
    assert "\n" not in text
    assert client.infer(ARRAYS)["actions"].shape == (4, 7)


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x91" * 900 + b"\x01", b"\xdd\xff\xff\xff\xff", "{}"]
)
def test_infer_answers_messages_that_are_no_msgpack(port, body):
    with raw(port) as websocket:
        websocket.recv()
        websocket.send(body)
        assert "message" in websocket.recv()
        websocket.send(msgpack_numpy.packb(ARRAYS))
        assert "actions" in msgpack.unpackb(websocket.recv())


def test_infer_takes_messages_in_fragments_and_refuses_long_ones(port):
    with raw(port) as websocket:
        websocket.recv()
        packed = msgpack_numpy.packb(ARRAYS)
        websocket.send([packed[:7], packed[7:100], packed[100:]])
        assert "actions" in msgpack.unpackb(websocket.recv())
        with suppress(ConnectionClosedError):  # before the last fragment is out, it may be closed
            websocket.send([bytes(MAX_BYTES // 2)] * 3)
        with pytest.raises(ConnectionClosedError) as error:
            websocket.recv()
    assert error.value.rcvd.code == 1009


def test_pages_of_browsers_are_not_served(port):
    with pytest.raises(InvalidStatus, match="403"):
        raw(port, additional_headers={"Origin": "http://example.org"})


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=60) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_healthz_answers_http(port):
    assert get(port, "/healthz") == (200, b"OK\n")
    assert get(port, "/")[0] == 426


def test_secret_is_the_api_key(source):
    with serving(source, host="0.0.0.0", secret=SECRET) as port:
        client = WebsocketClientPolicy(HOST, port, api_key=SECRET)
        assert client.infer(ARRAYS)["actions"].shape == (4, 7)
        for key in (None, "wrong", "ü" * 28):
            with pytest.raises(InvalidStatus, match="401"):
                WebsocketClientPolicy(HOST, port, api_key=key)
        assert get(port, "/healthz") == (200, b"OK\n")


def test_full_server_says_so(source):
    with serving(source, max_connections=1) as port:
        client = WebsocketClientPolicy(HOST, port)
        with pytest.raises(InvalidStatus, match="503"):
            WebsocketClientPolicy(HOST, port)
        assert get(port, "/healthz") == (200, b"OK\n")
        assert client.infer(ARRAYS)["actions"].shape == (4, 7)


def test_idle_client_is_told_and_disconnected(source):
    with serving(source, idle_timeout=0.3) as port, raw(port) as websocket:
        websocket.recv()
        assert websocket.recv(timeout=60) == "no request for too long; connect again"
        with pytest.raises(ConnectionClosedError):
            websocket.recv(timeout=60)


def test_bug_is_told_and_not_blamed_on_the_client(source, port, monkeypatch, capfd):
    websocket = raw(port)
    websocket.recv()

    def fail(self, slots, history):
        raise ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(PolicyActor, "plan", fail)
        websocket.send(msgpack_numpy.packb(ARRAYS))
        assert "the server failed, not this request" in websocket.recv(timeout=60)
    with pytest.raises(ConnectionClosedError) as error:
        websocket.recv(timeout=60)
    assert error.value.rcvd.code == 1011
    assert "ValueError: a bug" in capfd.readouterr().err
    assert WebsocketClientPolicy(HOST, port).infer(ARRAYS)["actions"].shape == (4, 7)
