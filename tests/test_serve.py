"""A real server process, driven by the client a robot would use, and by clients that no one would want."""

import ast
import signal
import socket
import struct
import sys
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_checkpoint import make_checkpoint
from tiny_run import call, start

from envs import vector
from envs.rollout import rollout
from envs.task_env import TaskEnv
from envs.tasks import TASKS
from envs.vector import VectorEnv
from policy import client as client_module
from policy import serve
from policy.agent import PolicyActor
from policy.client import MAX_BYTES, PolicyClient, PolicyError
from policy.server import Latency, Session
from tools.contract import task_contract

HORIZON = 7  # odd: an episode that ends within a chunk


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def process(source):
    process = start([f"checkpoint={source[0]}", "env=lift", "port=0"], None, "policy.serve")
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def port(process):
    line = process.stdout.readline()
    assert line.startswith("serving lift at 127.0.0.1:"), process.stderr.read()
    return int(line.split(";")[0].rpartition(":")[2])


@pytest.fixture
def client(port):
    with PolicyClient(port=port) as client:
        yield client


@pytest.fixture(scope="module")
def observations():
    """Five observations within lift's bounds."""
    rng, task = np.random.default_rng(0), TASKS["lift"]
    return [task.split(rng.uniform(task.low, task.high)) for _ in range(5)]


class Recorder(PolicyActor):
    """Keeps the chunks."""

    def act(self, slots, history):
        self.chunks.append(super().act(slots, history))
        return self.chunks[-1]


def test_the_robot_does_what_the_policy_does_in_this_process(source, client, simulator_of, monkeypatch):
    task = replace(TASKS["lift"], horizon=HORIZON)
    monkeypatch.setitem(TASKS, "lift", task)
    monkeypatch.setitem(vector.SUITES, "robosuite", simulator_of)
    robot = TaskEnv("lift")
    for seed in (3, 4):
        actor = Recorder(source[1], 0, rows=1)
        actor.chunks = []
        with VectorEnv(task, 1, 1) as env:
            rollout(env, actor, [seed])
        expected = np.concatenate([chunk[0] for chunk in actor.chunks])[:HORIZON]

        observation, _ = robot.reset(seed=seed)
        client.reset(seed)
        actions, ended = [], False
        while not ended:
            actions.append(client.act(observation))
            observation, _, terminated, truncated, _ = robot.step(actions[-1])
            ended = terminated or truncated
        np.testing.assert_array_equal(np.stack(actions), expected)


def test_the_contract_says_how(client):
    assert client.contract["task"] == "lift"
    assert {part["key"]: part["size"] for part in client.contract["observation"]} == TASKS["lift"].sizes
    assert (client.contract["observation_steps"], client.contract["executed_steps"]) == (2, 2)


def test_clients_have_episodes_of_their_own(port, observations):
    def alone(seed, seen):
        with PolicyClient(port=port) as client:
            client.reset(seed)
            return [client.act(observation) for observation in seen]

    expected = alone(0, observations), alone(1, observations[::-1])
    with PolicyClient(port=port) as one, PolicyClient(port=port) as two:
        one.reset(0)
        two.reset(1)
        pairs = [(one.act(a), two.act(b)) for a, b in zip(observations, observations[::-1], strict=True)]
        np.testing.assert_array_equal([a for a, _ in pairs], expected[0])
        np.testing.assert_array_equal([b for _, b in pairs], expected[1])
        assert np.abs(np.subtract(*expected)).max() > 0.1
        one.reset(0)  # within a chunk, whose rest is dropped
        np.testing.assert_array_equal([one.act(o) for o in observations], expected[0])


def test_observations_are_clipped_to_their_bounds(client, observations):
    far = {key: np.where(value > 0, 1e300, -1e300) for key, value in observations[0].items()}
    low, high = (TASKS["lift"].split(bound) for bound in (TASKS["lift"].low, TASKS["lift"].high))
    client.reset(0)
    found = client.act(far)
    client.reset(0)
    np.testing.assert_array_equal(found, client.act({k: np.where(far[k] > 0, high[k], low[k]) for k in far}))


def changed(**changes):
    """A request whose observation has `changes`; None leaves a key out."""
    good = {key: [0.0] * size for key, size in TASKS["lift"].sizes.items()}
    observation = {key: value for key, value in (good | changes).items() if value is not None}
    return {"type": "act", "observation": observation}


REFUSED = [
    ({}, "unknown type of request None: choose one of contract, reset, act, observe, statistics"),
    ({"type": "rest"}, "did you mean 'reset'"),
    ({"type": ["act"]}, "unknown type of request ['act']"),
    ({"type": "reset"}, "seed=None"),
    ({"type": "reset", "seed": -1}, "seed=-1: give a whole number from 0"),
    ({"type": "reset", "seed": 2**63}, "seed=9223372036854775808"),
    ({"type": "reset", "seed": 1.0}, "seed=1.0"),
    ({"type": "reset", "seed": True}, "seed=True"),
    ({"type": "act"}, "observation=None: give a map"),
    ({"type": "observe", "observation": [1.0]}, "observation=[1.0]"),
    (changed(object=None), "observation lacks 'object'; give object, robot0_eef_pos"),
    (changed(robot0_eef_pso=[0.0] * 3), "unknown observation key 'robot0_eef_pso'"),
    (changed(robot0_eef_pos=[0.0] * 2), "'robot0_eef_pos': give a list of 3 numbers"),
    (changed(robot0_eef_pos=[[0.0, 0.0, 0.0]]), "'robot0_eef_pos': give a list of 3 numbers"),
    (changed(robot0_eef_pos=[[0.0]] * 3), "holds [0.0]: give finite numbers"),
    (changed(robot0_eef_pos=0.0), "give a list of 3 numbers, got 0.0"),
    (changed(robot0_eef_pos="abc"), "give a list of 3 numbers, got 'abc'"),
    (changed(robot0_eef_pos=[0.0, float("nan"), 0.0]), "'robot0_eef_pos' holds nan: give finite numbers"),
    (changed(robot0_eef_pos=[0.0, float("-inf"), 0.0]), "holds -inf"),
    (changed(robot0_eef_pos=[0.0, None, 0.0]), "holds None"),
    (changed(robot0_eef_pos=[0.0, True, 0.0]), "holds True"),
    (changed(robot0_eef_pos=["0", "1", "2"]), "holds '0'"),
    (changed(robot0_eef_pos=[0.0, msgpack.ExtType(5, b"x"), 0.0]), "holds ExtType"),
    (changed(robot0_eef_pos=[0.0] * 5000), "give a list of 3 numbers, got [0.0"),
]


@pytest.mark.parametrize(("message", "said"), REFUSED, ids=range(len(REFUSED)))
def test_a_refused_request_changes_nothing(client, observations, message, said):
    client.reset(0)
    expected = [client.act(observation) for observation in observations]
    client.reset(0)
    found = [client.act(observation) for observation in observations[:2]]
    refused = client.statistics()["refused"]
    with pytest.raises(PolicyError) as error:
        client.request(message)
    assert said in str(error.value)
    assert len(str(error.value)) < 300
    assert client.statistics()["refused"] == refused + 1
    found += [client.act(observation) for observation in observations[2:]]
    np.testing.assert_array_equal(found, expected)


def test_a_server_that_is_silent_is_left():
    """A late reply would be taken for that of the next request."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(PolicyError, match=r"no reply \(timed out\); connect again"):
            PolicyClient(port=silent.getsockname()[1], timeout=0.2)
        connection, _ = silent.accept()
        with connection:
            request = b"".join(iter(lambda: connection.recv(100), b""))  # to its end: the client has closed
    assert msgpack.unpackb(request[4:]) == {"type": "contract"}


def test_an_episode_must_begin(client):
    with pytest.raises(PolicyError, match="no episode yet: send"):
        client.request(changed())


def exchange(port, data):
    """All that the server says to raw bytes until it closes, after this side has nothing more to say."""
    with socket.create_connection(("127.0.0.1", port), 10) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: raw.recv(65_536), b""))


def framed(body):
    return struct.pack(">I", len(body)) + body


def test_bytes_that_are_no_message(port):
    deep, nested = b"\x91" * 60_000, b"\x91" * 900 + b"\x01"
    for body in (
        b"", b"\xc0", b"\xc1", b"\x01\x02", b"\x91\x01", b"\x81\xa4type", b"\xa2\xff\xfe", b"\x81\x01\x02",
        b"\x81\x90\x01", deep, nested,
    ):  # fmt: skip
        reply = msgpack.unpackb(exchange(port, framed(body))[4:])
        assert reply["type"] == "error", body
        assert "message" in reply["message"], body
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", MAX_BYTES + 1), b"\xff" * 100_000):
        try:
            reply = exchange(port, garbage)
        except ConnectionError:  # closed with bytes of ours unread
            continue
        assert f"at most {MAX_BYTES}" in msgpack.unpackb(reply[4:])["message"]
    for cut_off in (b"", b"\x00", framed(b"\x80")[:4], framed(msgpack.packb(changed()))[:-1]):
        assert exchange(port, cut_off) == b""
    with PolicyClient(port=port) as client:
        client.reset(0)


@pytest.fixture(scope="module")
def session(source):
    return Session(source[1], task_contract(TASKS["lift"], source[1], 0), Latency())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("type"), inner),
    max_leaves=8,
)


@given(st.binary(max_size=64) | JSON.map(msgpack.packb) | JSON.map(lambda o: {"type": "act", "observation": o}))
def test_whatever_comes_has_an_answer(session, sent):
    body = sent if isinstance(sent, bytes) else msgpack.packb(sent)
    assert session.answer(body)["type"] in ("error", "ready", "statistics", "contract")


def test_the_client_can_be_copied_to_a_robot():
    found = set()
    for node in ast.walk(ast.parse(Path(client_module.__file__).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    assert found - set(sys.stdlib_module_names) == {"msgpack", "numpy"}


def test_bad_input_gives_one_line(source, port, monkeypatch, capsys):
    given = f"checkpoint={source[0]}"
    for arguments, said in (
        ([], "checkpoint= is missing"),
        (["checkpoint=nowhere"], "nowhere: no checkpoint here"),
        ([given], "env=lift,can: a server acts on one task"),
        ([given, "env=square"], "unknown task of this checkpoint 'square': choose one of lift, can"),
        ([given, "env=lift", "port=70000"], "port=70000: must be"),
        ([given, "env=lift", f"port={port}"], "address already in use"),
        ([given, "env=lift", "hots=x"], "did you mean 'host'"),
    ):
        assert call(serve.main, arguments, monkeypatch) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert said in lines[0]


def test_ctrl_c_ends_it_while_clients_are_connected(process, client):
    client.reset(0)
    client.request(changed())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    assert "plans, " in out
    assert "latency p50 " in out
    with pytest.raises(PolicyError, match="connect again"):
        client.reset(0)
