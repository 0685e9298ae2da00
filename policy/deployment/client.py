"""A client of `policy.serve` for a robot's own process; copy this file to the robot.

It needs msgpack and numpy, and holds the protocol, so that the server imports it from here.

    with PolicyClient(port=5555) as policy:
        policy.reset(seed=0)  # a new episode
        while running:
            robot.act(policy.act(robot.observe()))  # once a control step

Messages go over TCP, each as four bytes (its length, big-endian) and that many bytes of msgpack: a
map with text keys and at most `MAX_BYTES`. Every request gets one reply, in order. Numbers are
plain msgpack numbers, arrays lists.

{type: contract}
    {type: contract, ...}: what an export's config.json says of the task
{type: reset, seed: 0}
    {type: ready}: a new episode; its noise comes from the seed, 0 to 2^63 - 1
{type: act, observation: {key: numbers, or the bytes of a picture}}
    {type: actions, actions: [Ta][Da]}: to be executed in order; Da is the contract's action_size
{type: observe, observation: {key: numbers}}
    {type: observed}: the history grows, without a plan; send it at each step within a chunk
{type: statistics}
    {type: statistics, plans, refused, p50_ms, p99_ms}: of all clients so far
{type: hello, secret: text}
    {type: welcome}: the first request to a server that wants a secret, which it closes at another

A picture is raw, row by row from the top, red, green and blue, or the bytes of a JPEG or PNG file.
Anything else is refused by `{type: error, message}` and leaves the episode unchanged; after bytes
that cannot be a message (a length above `MAX_BYTES`) the server also closes the connection. A bug
in the server is answered by `{type: failure, message}`, and the connection closed. Each connection
has an episode of its own. Connections take turns, one request each; requests may be sent ahead, but
the server reads on only as it answers. It says `error` and closes where it has too many clients, or
where none has come for its `idle_timeout`; it closes where none comes within ten seconds of
connecting.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

MAX_BYTES = 1_048_576  # two pictures of 400 x 400 pixels, raw
HEADER = struct.Struct(">I")
SECRET = "RECONVERGE_SECRET"
"""Environment variable of the secret that the clients of a server share."""


class PolicyError(RuntimeError):
    """The server refused a request, failed, or is gone."""


def address(host: str, port: int) -> str:
    """Return host:port, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as bytes, with its length in front."""
    body = msgpack.packb(message)
    return HEADER.pack(len(body)) + body


def _packable(key: str, value: Any, wanted: tuple[int, ...] | None) -> Any:
    """Return what msgpack takes: bytes for a picture of uint8, or for those of a file.

    PolicyError for a picture that is not of the shape that is `wanted`, which bytes do not tell.
    """
    if isinstance(value, bytes):
        return value
    array = np.asarray(value)
    if array.ndim != 3 or array.dtype != np.uint8:
        return array.tolist()
    if wanted not in (None, array.shape):
        raise PolicyError(
            f"observation {key!r}: give a picture of shape {wanted}, got {array.shape}"
        )
    return array.tobytes()


def _decoded(body: bytes) -> dict[str, Any]:
    """Return the reply that these bytes are; PolicyError if no policy server sends such."""
    try:
        reply = msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException) as error:
        raise _stranger(error) from error
    kind = reply.get("type") if isinstance(reply, dict) else None
    said = reply.get("message") if kind in ("error", "failure") else ""
    if not isinstance(kind, str) or not isinstance(said, str):
        raise _stranger("it is no reply")
    return reply


def _chunk(actions: Any) -> list[np.ndarray]:
    """Return the actions [Da] of a plan; PolicyError if they are none."""
    try:
        chunk = np.asarray(actions, np.float32)
    except (TypeError, ValueError) as error:
        raise _stranger(error) from error
    if chunk.ndim != 2 or not chunk.size:
        raise _stranger(f"actions of shape {chunk.shape}")
    return list(chunk)


def _shapes(contract: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each picture; PolicyError if the contract cannot be read."""
    pictures = contract.get("pictures", ())  # older servers have none
    try:
        return {each["key"]: (each["height"], each["width"], 3) for each in pictures}
    except (KeyError, TypeError) as error:
        raise _stranger(f"pictures: {error}") from error


def _stranger(said: object) -> PolicyError:
    return PolicyError(f"no policy server is there, by what it says ({said}); correct the address")


class PolicyClient:
    """One connection, one episode at a time.

    `timeout`: seconds for connecting and for each reply. `secret`: the server's, where it has one;
    by default that of the environment variable `RECONVERGE_SECRET`.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 5555,
        timeout: float = 5.0,
        secret: str | None = None,
    ):
        try:
            self._socket = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise PolicyError(
                f"no server at {address(host, port)} ({error}); start policy.serve there, or "
                "correct the address"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._actions: list[np.ndarray] = []
        secret = secret or os.environ.get(SECRET)
        try:
            if secret:
                self.request({"type": "hello", "secret": secret.strip()})
            self.contract = self.request({"type": "contract"})
            self._shapes = _shapes(self.contract)
        except BaseException:
            self.close()
            raise

    def reset(self, seed: int | np.integer) -> None:
        """Start an episode; the same seed and observations give the same actions."""
        seed = int(seed) if isinstance(seed, np.integer) else seed  # which msgpack does not take
        self.request({"type": "reset", "seed": seed})
        self._actions = []

    def act(self, observation: Mapping[str, Sequence[float] | np.ndarray | bytes]) -> np.ndarray:
        """Return the action [Da] of this control step: the next of the chunk, or of a new one."""
        listed = {
            key: _packable(key, value, self._shapes.get(key)) for key, value in observation.items()
        }
        kind = "observe" if self._actions else "act"
        reply = self.request({"type": kind, "observation": listed})
        if kind == "act":
            try:
                self._actions = _chunk(reply.get("actions"))
            except PolicyError:
                self.close()
                raise
        return self._actions.pop(0)

    def statistics(self) -> dict[str, Any]:
        """Return the latency of the server's plans, from decoded request to actions."""
        return self.request({"type": "statistics"})

    def request(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send one message and return its reply; PolicyError if that is an error or missing."""
        sent, reply = encode(message), None
        try:
            self._socket.sendall(sent)
            (size,) = HEADER.unpack(self._read(HEADER.size))
            if size > MAX_BYTES:
                raise _stranger(f"a reply of {size} bytes")
            reply = _decoded(self._read(size))
        except OSError as error:
            raise PolicyError(f"no reply ({error}); connect again") from error
        finally:  # also at Ctrl-C: a late reply must not be taken for that of the next request
            if reply is None:
                self.close()
        if reply["type"] == "failure":
            self.close()
        if reply["type"] in ("error", "failure"):
            raise PolicyError(reply["message"])
        return reply

    def close(self) -> None:
        """Close the connection; its episode ends."""
        self._socket.close()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the server closed the connection")
            data += part
        return data
