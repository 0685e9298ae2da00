"""Bytes of any kind in either protocol: one reply or none, and no effect on other clients."""

import itertools
import socket
import struct
from contextlib import suppress

import numpy as np
import pytest
from openpi_client import msgpack_numpy
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from reconverge.policy.deployment.client import MAX_BYTES, PolicyClient
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
from support.tiny_checkpoint import make_checkpoint

ROUNDS = 60  # of each protocol


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def port(source):
    with serving(source) as port:
        yield port


@pytest.fixture(scope="module")
def handshake():
    """The bytes by which a websocket is opened."""
    client = ClientProtocol(parse_uri("ws://localhost/"))
    client.send_request(client.connect())
    return b"".join(client.data_to_send())


def frame(body, opcode=2, fin=True, mask=b"\0\0\0\0", reserved=0):
    """A frame of a websocket's client; masked by zeros it can be read."""
    first = bytes([fin << 7 | reserved << 4 | opcode])
    masked = 0x80 if mask else 0
    if len(body) < 126:
        size = bytes([masked | len(body)])
    else:
        size = bytes([masked | 126]) + struct.pack(">H", len(body))
    return first + size + mask + body


def shuffled(rng, data):
    """The bytes after one to three accidents."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data) + 1))
        kind = rng.integers(5)
        if kind == 0:
            data[at:] = b""
        elif kind == 1:
            data[at:at] = rng.bytes(rng.integers(1, 40))
        elif kind == 2:
            data[at : at + int(rng.integers(1, 40))] = b""
        elif kind == 3:
            data[at : at + 4] = rng.bytes(4)
        else:
            data[at:at] = data[: int(rng.integers(200))]
    return bytes(data)


def test_accidents_affect_no_other_client(port, handshake, capfd):
    """Cut off, garbled, repeated: every connection ends, and a client beside them gets its own
    actions.
    """
    ours = framed({"type": "reset", "seed": 0}) + framed({"type": "act", "observation": MIDDLE})
    arrays = {key: np.array(value) for key, value in MIDDLE.items()}
    theirs = handshake + frame(msgpack_numpy.packb(arrays)) * 2
    rng = np.random.default_rng(0)
    with PolicyClient(port=port) as client:
        client.reset(0)
        expected = [client.act(MIDDLE) for _ in range(2 * ROUNDS)]
        client.reset(0)
        found = []
        for whole, _ in itertools.product((ours, theirs), range(ROUNDS)):
            with suppress(ConnectionError):  # the server went first
                exchange(port, shuffled(rng, whole))
            found.append(client.act(MIDDLE))
        np.testing.assert_array_equal(found, expected)
    assert capfd.readouterr() == ("", "")


FRAMES = {
    "unmasked": (frame(b"\x80", mask=b""), 1002),
    "reserved bit": (frame(b"\x80", reserved=1), 1002),
    "unknown opcode": (frame(b"\x80", opcode=3), 1002),
    "continues nothing": (frame(b"\x80", opcode=0), 1002),
    "begins twice": (frame(b"\x80", fin=False) * 2, 1002),
    "long ping": (frame(bytes(200), opcode=9), 1002),
    "ping in parts": (frame(b"", opcode=9, fin=False), 1002),
    "bad close code": (frame(b"\x00\x01", opcode=8), 1002),
    "close of no text": (frame(b"\x03\xe8\xff", opcode=8), 1007),
    "huge length": (b"\x82\xff" + b"\x7f" + b"\xff" * 7, 1009),
    "above the limit": (b"\x82\xff" + struct.pack(">Q", MAX_BYTES + 1), 1009),
    "above it in parts": (
        frame(bytes(40_000), fin=False)
        + frame(bytes(40_000), opcode=0, fin=False) * (MAX_BYTES // 40_000),
        1009,
    ),
}


@pytest.mark.parametrize("case", FRAMES)
def test_frames_against_the_rules_end_the_connection_with_a_code(port, handshake, case):
    data, code = FRAMES[case]
    said = exchange(port, handshake + data)
    assert said.startswith(b"HTTP/1.1 101 ")
    assert b"\x88" in said[said.index(struct.pack(">H", code)) - 3 :][:3]


HANDSHAKES = {
    "no request": (b"GET \r\n\r\n", b""),
    "no version": (b"GET / \r\n\r\n", b""),
    "other version": (b"GET / HTTP/1.0\r\n\r\n", b""),
    "a body": (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b""),
    "bad header": (b"GET / HTTP/1.1\r\n\xff\xfe: \x00\r\n\r\n", b""),
    "no upgrade": (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 426 "),
    "long line": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"HTTP/1.1 414 "),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n", b"HTTP/1.1 431 "),
    "cut off": (b"GET / HTTP/1.1\r\nUpgrade: webs", b""),
}


@pytest.mark.parametrize("case", HANDSHAKES)
def test_handshakes_against_the_rules_are_refused(port, case, capfd):
    data, said = HANDSHAKES[case]
    reply = exchange(port, data)
    assert reply.startswith(said)
    assert b" 101 " not in reply
    assert capfd.readouterr() == ("", "")


def test_many_authorizations_are_no_bug(source, handshake, capfd):
    twice = handshake.replace(b"\r\n\r\n", 2 * b"\r\nAuthorization: Api-Key x" + b"\r\n\r\n")
    with serving(source, secret="correct horse battery staple") as port:
        assert exchange(port, twice).startswith(b"HTTP/1.1 401 ")
    assert capfd.readouterr() == ("", "")


def test_client_that_vanishes_within_a_reply_is_no_bug(port, handshake, capfd, caplog):
    """The connection is reset, with requests and replies under way."""
    contract = framed({"type": "contract"}) * 500
    texts, pings = handshake + frame(b"\xc1") * 500, handshake + frame(b"", opcode=9) * 5000
    for data in (contract, texts, pings):
        for _ in range(5):
            with connect(port) as raw:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raw.sendall(data)
                raw.recv(10)
    with PolicyClient(port=port) as client:
        client.reset(0)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_websockets_take_turns(port, handshake, monkeypatch):
    arrays = {key: np.array(value) for key, value in MIDDLE.items()}
    acts = frame(msgpack_numpy.packb(arrays)) * 100 + frame(b"", opcode=8)
    with connect(port) as client, connect(port) as flood:
        with standing_still(port, monkeypatch) as answered:
            client.sendall(framed({"type": "contract"}) * 20)
            client.shutdown(socket.SHUT_WR)
            flood.sendall(handshake + acts)
        rest(client), rest(flood)
    assert_turns(answered, 2, rounds=15)


def test_pings_are_answered_between_requests(port, handshake):
    with connect(port) as raw:
        raw.sendall(handshake + frame(b"hello", opcode=9) + frame(b"", opcode=8))
        said = rest(raw)
    assert b"\x8a\x05hello" in said
    assert said.endswith(b"\x88\x00")
