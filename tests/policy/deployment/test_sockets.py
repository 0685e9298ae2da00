"""A real server process, driven by the client of a robot, and by clients that misbehave."""

import ast
import asyncio
import resource
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest

from reconverge.envs.catalog import TASKS
from reconverge.envs.gymnasium_env import TaskEnv
from reconverge.envs.rollout import rollout
from reconverge.envs.vector import VectorEnv
from reconverge.policy import serve
from reconverge.policy.deployment import client as client_module
from reconverge.policy.deployment.client import MAX_BYTES, PolicyClient, PolicyError, address
from reconverge.policy.deployment.contract import make_contract
from reconverge.policy.deployment.session import Latency
from reconverge.policy.deployment.sockets import listen
from reconverge.policy.model.actor import PolicyActor
from support.serving import (
    MIDDLE,
    assert_turns,
    connect,
    exchange,
    framed,
    rest,
    serving,
    standing_still,
)
from support.simulators import use_simulators
from support.tiny_checkpoint import make_checkpoint
from support.tiny_run import call, start

MAX_STEPS = 7  # odd: an episode that ends within a chunk


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints"))


@contextmanager
def serve_process(source, *options):
    """`policy.serve` as a process of its own."""
    process = start(
        [f"checkpoint={source.path}", "env=lift", "port=0", *options],
        None,
        "reconverge.policy.serve",
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def port_of(process):
    line = process.stdout.readline()
    assert line.startswith("serving lift at 127.0.0.1:"), process.stderr.read()
    return int(line.split(";")[0].rpartition(":")[2])


@pytest.fixture(scope="module")
def process(source):
    with serve_process(source) as process:
        yield process


@pytest.fixture(scope="module")
def port(process):
    return port_of(process)


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


def test_act_gives_the_actions_of_a_rollout_in_this_process(
    source, client, simulator_of, monkeypatch
):
    task = replace(TASKS["lift"], max_steps=MAX_STEPS)
    monkeypatch.setitem(TASKS, "lift", task)
    use_simulators(monkeypatch, "robosuite", simulator_of)
    robot = TaskEnv("lift")
    for seed in (3, 4):
        actor = Recorder(source.policy, 0, rows=1)
        actor.chunks = []
        with VectorEnv(task, 1, 1) as env:
            rollout(env, actor, [seed])
        expected = np.concatenate([chunk[0] for chunk in actor.chunks])[:MAX_STEPS]

        observation, _ = robot.reset(seed=seed)
        client.reset(seed)
        actions, ended = [], False
        while not ended:
            actions.append(client.act(observation))
            observation, _, terminated, truncated, _ = robot.step(actions[-1])
            ended = terminated or truncated
        np.testing.assert_array_equal(np.stack(actions), expected)


def test_contract_names_sizes_and_steps(client):
    assert client.contract["task"] == "lift"
    assert {part["key"]: part["size"] for part in client.contract["observation"]} == TASKS[
        "lift"
    ].sizes
    assert (client.contract["n_obs_steps"], client.contract["n_action_steps"]) == (2, 2)


def test_listen_gives_each_client_its_own_episode(port, observations):
    def alone(seed, seen):
        with PolicyClient(port=port) as client:
            client.reset(seed)
            return [client.act(observation) for observation in seen]

    expected = alone(0, observations), alone(1, observations[::-1])
    with PolicyClient(port=port) as one, PolicyClient(port=port) as two:
        one.reset(np.int64(0))
        two.reset(1)
        pairs = [
            (one.act(a), two.act(b)) for a, b in zip(observations, observations[::-1], strict=True)
        ]
        np.testing.assert_array_equal([a for a, _ in pairs], expected[0])
        np.testing.assert_array_equal([b for _, b in pairs], expected[1])
        assert np.abs(np.subtract(*expected)).max() > 0.1
        one.reset(0)  # within a chunk, whose rest is dropped
        np.testing.assert_array_equal([one.act(o) for o in observations], expected[0])


def test_act_clips_observations_to_their_bounds(client, observations):
    far = {key: np.where(value > 0, 1e300, -1e300) for key, value in observations[0].items()}
    low, high = (TASKS["lift"].split(bound) for bound in (TASKS["lift"].low, TASKS["lift"].high))
    client.reset(0)
    found = client.act(far)
    client.reset(0)
    np.testing.assert_array_equal(
        found, client.act({k: np.where(far[k] > 0, high[k], low[k]) for k in far})
    )


def changed(**changes):
    """A request whose observation has `changes`; None leaves a key out."""
    good = {key: [0.0] * size for key, size in TASKS["lift"].sizes.items()}
    observation = {key: value for key, value in (good | changes).items() if value is not None}
    return {"type": "act", "observation": observation}


def nested(levels):
    """A list in a list in a list, and so on."""
    inner = []
    for _ in range(levels):
        inner = [inner]
    return inner


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
    (
        changed(robot0_eef_pos=[0.0, float("nan"), 0.0]),
        "'robot0_eef_pos' holds nan: give finite numbers",
    ),
    (changed(robot0_eef_pos=[0.0, float("-inf"), 0.0]), "holds -inf"),
    (changed(robot0_eef_pos=[0.0, None, 0.0]), "holds None"),
    (changed(robot0_eef_pos=[0.0, True, 0.0]), "holds True"),
    (changed(robot0_eef_pos=["0", "1", "2"]), "holds '0'"),
    (changed(robot0_eef_pos=[0.0, msgpack.ExtType(5, b"x"), 0.0]), "holds ExtType"),
    (changed(robot0_eef_pos=[0.0] * 5000), "give a list of 3 numbers, got 5000 of them"),
    (changed(**{"k" * 5000: [0.0]}), "unknown observation key"),
    ({"type": "t" * 5000}, "unknown type of request"),
    ({"type": nested(1000)}, "unknown type of request '[[[[[[[...]]]]]]]'"),
    ({"type": "reset", "seed": nested(1000)}, "seed=[[[[[[[...]]]]]]]"),
]


@pytest.mark.parametrize(("message", "said"), REFUSED, ids=range(len(REFUSED)))
def test_request_that_is_refused_changes_nothing(client, observations, message, said):
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


def test_request_gives_up_on_a_silent_server():
    """A late reply would be taken for that of the next request."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(PolicyError, match=r"no reply \(timed out\); connect again"):
            PolicyClient(port=silent.getsockname()[1], timeout=0.2)
        connection, _ = silent.accept()
        with connection:
            request = b"".join(
                iter(lambda: connection.recv(100), b"")
            )  # to its end: the client has closed
    assert msgpack.unpackb(request[4:]) == {"type": "contract"}


@contextmanager
def answering(*replies):
    """A server of anything: it gives each request the next of these replies, and fails unless the
    client then closes; yields the port.
    """

    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            for reply in replies:
                connection.recv(1000)
                connection.sendall(reply)
            with suppress(ConnectionError):  # what it has not read is lost
                rest(connection)
            closed.append(True)

    closed = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(20)
    assert closed == [True]


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        framed(b"\xc1"),
        framed(b""),
        framed(b"\x81\xa4type"),
        framed([1]),
        framed({}),
        framed({"type": None}),
        framed({"type": "error"}),
        framed({"type": "failure", "message": 5}),
        framed({"type": "contract", "pictures": 5}),
        framed({"type": "contract", "pictures": [{"key": "a"}]}),
        framed({"type": "contract", "pictures": [{"key": [], "height": 1, "width": 1}]}),
    ],
)
def test_client_of_another_server_says_so_and_closes(reply):
    with answering(reply) as port, pytest.raises(PolicyError, match="no policy server is there"):
        PolicyClient(port=port)


@pytest.mark.parametrize("actions", [None, [], 1, [1.0, 2.0], [[]], [["a"]], [[1], [1, 2]], {}])
def test_act_takes_no_actions_of_another_form(actions):
    replies = {"type": "contract"}, {"type": "actions", "actions": actions}
    said = pytest.raises(PolicyError, match="no policy server is there")
    with answering(*map(framed, replies)) as port, PolicyClient(port=port) as client:
        with said:
            client.act(MIDDLE)
        with pytest.raises(PolicyError, match="connect again"):
            client.statistics()


class Interruptible:
    """A socket whose reader is interrupted where `interrupted` is set."""

    def __init__(self, connected: socket.socket):
        self.connected, self.interrupted = connected, False

    def __getattr__(self, name):
        return getattr(self.connected, name)

    def recv(self, size):
        if self.interrupted:
            raise KeyboardInterrupt
        return self.connected.recv(size)


def test_request_that_is_interrupted_ends_the_connection(port, monkeypatch):
    """Else the robot would act on replies to the requests before."""
    made = Interruptible(socket.create_connection(("127.0.0.1", port)))
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: made)
    with PolicyClient(port=port) as client:
        client.reset(0)
        made.interrupted = True
        with pytest.raises(KeyboardInterrupt):
            client.act(MIDDLE)
        made.interrupted = False
        with pytest.raises(PolicyError, match="connect again"):
            client.reset(0)


def test_the_client_says_where_no_server_is():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(PolicyError, match=rf"no server at 127.0.0.1:{port} .*start policy.serve"):
        PolicyClient(port=port)


@pytest.mark.parametrize(
    ("host", "shown"), [("::1", "[::1]:5555"), ("localhost", "localhost:5555")]
)
def test_an_address_of_ipv6_is_in_brackets(host, shown):
    assert address(host, 5555) == shown


def test_act_wants_an_episode_first(client):
    with pytest.raises(PolicyError, match="no episode yet: send"):
        client.request(changed())


def test_listen_refuses_bytes_that_are_no_message(port):
    deep, nested = b"\x91" * 60_000, b"\x91" * 900 + b"\x01"
    for body in (
        b"",
        b"\xc0",
        b"\xc1",
        b"\x01\x02",
        b"\x91\x01",
        b"\x81\xa4type",
        b"\xa2\xff\xfe",
        b"\x81\x01\x02",
        b"\x81\x90\x01",
        deep,
        nested,
    ):
        reply = msgpack.unpackb(exchange(port, framed(body))[4:])
        assert reply["type"] == "error", body
        assert "message" in reply["message"], body
    for garbage in (b"PUT / HTTP/1.1", struct.pack(">I", MAX_BYTES + 1), b"\xff" * 100_000):
        reply = exchange(port, garbage)
        assert f"at most {MAX_BYTES}" in msgpack.unpackb(reply[4:])["message"]
    for cut_off in (b"", b"\x00", framed(b"\x80")[:4], framed(msgpack.packb(changed()))[:-1]):
        assert exchange(port, cut_off) == b""
    with PolicyClient(port=port) as client:
        client.reset(0)


def test_listen_does_not_blame_the_client_for_a_bug(source, observations, monkeypatch, capfd):
    """The client is told and disconnected, the traceback printed here, other clients served."""
    act, broken = PolicyActor.act, []

    def act_or_fail(self, slots, history):
        if broken:
            raise ValueError("a bug")
        return act(self, slots, history)

    monkeypatch.setattr(PolicyActor, "act", act_or_fail)
    contract, latency = make_contract(source.task("lift"), source.policy), Latency()
    started: list[int] = []
    ready = threading.Event()

    def on_start(host, port):
        started.append(port)
        ready.set()

    async def serve_until_done():
        server = asyncio.create_task(
            listen(source.policy, contract, "127.0.0.1", 0, latency, on_start)
        )
        await asyncio.to_thread(talk)
        server.cancel()

    def talk():
        assert ready.wait(120)
        with PolicyClient(port=started[0]) as client:
            client.reset(0)
            broken.append(True)
            with pytest.raises(PolicyError, match="the server failed, not this request"):
                client.act(observations[0])
            with pytest.raises(PolicyError, match="connect again"):
                client.statistics()
        broken.clear()
        with PolicyClient(port=started[0]) as client:
            client.reset(0)
            assert client.act(observations[0]).shape == (7,)
            assert client.statistics()["refused"] == 0

    asyncio.run(serve_until_done())
    printed = capfd.readouterr().err
    assert "Traceback" in printed
    assert "ValueError: a bug" in printed


def test_client_imports_only_msgpack_and_numpy():
    found = set()
    for node in ast.walk(ast.parse(Path(client_module.__file__).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    assert found - set(sys.stdlib_module_names) == {"msgpack", "numpy"}


ACT = {"type": "act", "observation": MIDDLE}
RESET = {"type": "reset", "seed": 0}
SECRET = "correct horse battery staple"


@pytest.mark.parametrize("floods", [1, 5])
def test_clients_take_turns(source, floods, monkeypatch):
    """Of a client that sends ahead one request is answered, then one of each other."""
    with serving(source) as port, ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(1 + floods)]
        with standing_still(port, monkeypatch) as answered:
            for client, requests in zip(clients, [20] + floods * [100], strict=True):
                client.sendall(framed(RESET) + framed(ACT) * requests)
                client.shutdown(socket.SHUT_WR)
        for client in clients:
            rest(client)
    assert_turns(answered, 1 + floods, rounds=19)


def test_flood_is_answered_whole_and_in_order(source):
    with serving(source) as port:
        replies = msgpack.Unpacker()
        seeds = [framed({"type": "reset", "seed": seed}) for seed in (0, -1)]
        said = exchange(port, (seeds[0] + framed(ACT) + seeds[1]) * 200)
        while said:
            (size,) = struct.unpack(">I", said[:4])
            replies.feed(said[4 : 4 + size])
            said = said[4 + size :]
    assert [reply["type"] for reply in replies] == ["ready", "actions", "error"] * 200


def test_client_that_does_not_read_is_read_no_further_and_disconnected(source):
    with serving(source, idle_timeout=1.0) as port, connect(port) as raw:
        raw.settimeout(0.5)
        with pytest.raises(OSError, match=r"timed out|reset|Broken pipe"):
            raw.sendall(framed({"type": "contract"}) * 2_000_000)
        with PolicyClient(port=port) as client:
            client.reset(0)
            assert client.act(MIDDLE).shape == (7,)
        raw.settimeout(10)
        time.sleep(3)
        with pytest.raises(ConnectionError):
            raw.sendall(bytes(100_000_000))


@pytest.mark.parametrize("sent", [b"", b"\x00", framed(RESET), framed(RESET) + framed(ACT)[:-1]])
def test_idle_client_is_disconnected(source, sent):
    with serving(source, idle_timeout=0.3) as port, connect(port) as raw:
        raw.sendall(sent)
        said = rest(raw)
        assert (b"no request for too long; connect again" in said) == (len(sent) > 4)


def test_client_that_asks_now_and_then_stays(source):
    with serving(source, idle_timeout=1.5) as port, PolicyClient(port=port) as client:
        for _ in range(4):
            time.sleep(0.5)
            client.reset(0)


def test_full_server_says_so(source):
    with serving(source, max_connections=2) as port:
        with PolicyClient(port=port) as one, connect(port) as two:
            two.sendall(framed(RESET))
            with pytest.raises(PolicyError, match="all 2 connections of this server are taken"):
                PolicyClient(port=port)
            with connect(port) as silent:
                assert b"all 2 connections of this server are taken" in rest(silent)
            one.reset(0)
        for _ in range(50):  # they go when the server notices
            with suppress(PolicyError), PolicyClient(port=port) as three:
                three.reset(0)
                break
            time.sleep(0.1)
        else:
            pytest.fail("no place")


def test_silent_connections_take_no_place_of_those_who_ask(source):
    with serving(source, max_connections=2) as port, ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(8)]
        time.sleep(0.5)
        with PolicyClient(port=port) as one, PolicyClient(port=port) as two:
            one.reset(0)
            two.reset(0)
            silent[0].sendall(framed(RESET))
            assert b"all 2 connections of this server are taken" in rest(silent[0])


def test_those_without_the_secret_take_no_place(source, monkeypatch):
    monkeypatch.delenv("RECONVERGE_SECRET", raising=False)
    with serving(source, max_connections=1, secret=SECRET) as port, connect(port) as stranger:
        stranger.sendall(framed({"type": "hello", "secret": SECRET})[:-1])
        time.sleep(0.5)
        with PolicyClient(port=port, secret=SECRET) as client:
            client.reset(0)


def test_many_idle_connections_leave_room(source):
    with serving(source, max_connections=100, idle_timeout=0.5) as port, ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(connect(port))
        time.sleep(3)
        with PolicyClient(port=port) as client:
            client.reset(0)


def test_secret_is_asked_for_first(source, monkeypatch):
    monkeypatch.delenv("RECONVERGE_SECRET", raising=False)
    with serving(source, host="0.0.0.0", secret=SECRET) as port:
        with pytest.raises(PolicyError, match="give this server's secret first"):
            PolicyClient(port=port)
        with pytest.raises(PolicyError, match="not this server's secret"):
            PolicyClient(port=port, secret=SECRET[:-1])
        for request in (RESET, ACT, {}, b"\xc1", {"type": "hello"}, {"type": "hello", "secret": 1}):
            said = exchange(port, framed(request) + framed({"type": "contract"}))
            assert msgpack.unpackb(said[4:])["type"] == "error"  # one reply, then the end
        with PolicyClient(port=port, secret=SECRET) as client:
            client.reset(0)
            assert client.act(MIDDLE).shape == (7,)
        monkeypatch.setenv("RECONVERGE_SECRET", SECRET)
        PolicyClient(port=port).close()


def test_secret_that_is_not_asked_for_does_no_harm(port):
    PolicyClient(port=port, secret=SECRET).close()


def test_serve_says_bad_input_in_one_line(source, port, monkeypatch, capsys):
    given = f"checkpoint={source.path}"
    for arguments, said in (
        ([], "checkpoint= is missing"),
        (["checkpoint=nowhere"], "nowhere: no checkpoint here"),
        ([given], "env=lift,can: a server acts on one task"),
        (
            [given, "env=square"],
            "0_lift: 'square': choose one of lift, can",
        ),
        ([given, "env=lift", "port=70000"], "port=70000: must be"),
        ([given, "env=lift", f"port={port}"], "address already in use"),
        ([given, "env=lift", "hots=x"], "did you mean 'host'"),
        ([given, "env=lift", "host=0.0.0.0"], "clients must share a secret: give secret_file="),
        ([given, "env=lift", "secret_file=nowhere"], "nowhere: cannot be read"),
        ([given, "env=lift", "idle_timeout=0"], "idle_timeout=0.0: must be above 0"),
        ([given, "env=lift", "max_connections=0"], "max_connections=0: must be at least 1"),
    ):
        assert call(serve.main, arguments, monkeypatch) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert said in lines[0]


def test_serve_ends_at_ctrl_c_while_clients_are_connected(process, client):
    client.reset(0)
    client.request(changed())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "")
    assert "plans: " in out
    assert "latency p50 " in out
    with pytest.raises(PolicyError, match="connect again"):
        client.reset(0)


def test_serve_without_descriptors_waits_and_says_so_once(source):
    with serve_process(source) as process:
        port = port_of(process)
        count = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (count + 3, count + 3))
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(connect(port))
            time.sleep(2)
        with PolicyClient(port=port) as client:
            client.reset(0)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(err.splitlines()) == 1, err
    assert "no further client for now" in err
