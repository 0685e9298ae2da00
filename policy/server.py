"""Serves action chunks to robots' processes over sockets; `policy.client` documents the messages."""

from __future__ import annotations

import asyncio
import math
import reprlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from policy.agent import DiffusionPolicy, PolicyActor
from policy.choices import unknown
from policy.client import HEADER, MAX_BYTES, encode

KEPT = 10_000  # latest plans whose latency is kept


class Latency:
    """Milliseconds of the latest plans, from decoded request to actions, and how many requests were refused."""

    def __init__(self) -> None:
        self.plans = self.refused = 0
        self._milliseconds: deque[float] = deque(maxlen=KEPT)

    def add(self, seconds: float) -> None:
        self.plans += 1
        self._milliseconds.append(1e3 * seconds)

    def summary(self) -> dict[str, Any]:
        p50, p99 = np.percentile(self._milliseconds, [50, 99]).tolist() if self.plans else (None, None)
        return {"plans": self.plans, "refused": self.refused, "p50_ms": p50, "p99_ms": p99}


class Session:
    """One client's episode: its observation history and its noise, as in a rollout of `PolicyActor`."""

    def __init__(self, policy: DiffusionPolicy, contract: dict[str, Any], latency: Latency):
        self._contract, self._latency = contract, latency
        self._actor = PolicyActor(policy, contract["index"], rows=1)
        self._steps = policy.observation_steps
        self._history: deque[np.ndarray] = deque(maxlen=self._steps)
        self._begun = False
        self._requests: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "contract": lambda _: {"type": "contract", **contract},
            "reset": self._reset,
            "act": self._act,
            "observe": self._observe,
            "statistics": lambda _: {"type": "statistics", **latency.summary()},
        }

    def answer(self, body: bytes) -> dict[str, Any]:
        """The reply to the bytes of one message."""
        try:
            message = _decode(body)
            kind = message.get("type")
            if not isinstance(kind, str) or kind not in self._requests:
                raise unknown("type of request", kind, self._requests)
            return self._requests[kind](message)
        except ValueError as error:
            self._latency.refused += 1
            return refusal(error)

    def _reset(self, message: dict[str, Any]) -> dict[str, Any]:
        seed = message.get("seed")
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise ValueError(f"seed={seed!r}: give a whole number from 0 to 2^63 - 1")
        self._actor.begin(0, seed)
        self._history.clear()
        self._begun = True
        return {"type": "ready"}

    def _observe(self, message: dict[str, Any]) -> dict[str, Any]:
        if not self._begun:
            raise ValueError("no episode yet: send {type: reset, seed: 0} first")
        observation = flatten(message.get("observation"), self._contract["observation"])
        self._history.extend([observation] * (1 if self._history else self._steps))
        return {"type": "observed"}

    def _act(self, message: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        self._observe(message)
        actions = self._actor.act([0], np.stack(self._history)[None])[0].tolist()
        self._latency.add(time.perf_counter() - start)
        return {"type": "actions", "actions": actions}


def flatten(observation: Any, parts: list[dict[str, Any]]) -> np.ndarray:
    """The flat observation [Do], clipped to its bounds; ValueError names the key that is not as the contract says."""
    if not isinstance(observation, dict):
        raise ValueError(f"observation={_short(observation)}: give a map of key to numbers")
    sizes = {part["key"]: part["size"] for part in parts}
    for key in observation:
        if key not in sizes:
            raise unknown("observation key", key, sizes)
    for key, size in sizes.items():
        if key not in observation:
            raise ValueError(f"observation lacks {key!r}; give {', '.join(sizes)}")
        values = observation[key]
        if not isinstance(values, list) or len(values) != size:
            raise ValueError(f"observation {key!r}: give a list of {size} numbers, got {_short(values)}")
        for value in values:
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ValueError(f"observation {key!r} holds {_short(value)}: give finite numbers")
    flat = np.array([value for key in sizes for value in observation[key]], np.float64)
    low, high = (np.array([x for part in parts for x in part[side]]) for side in ("low", "high"))
    return flat.clip(low, high).astype(np.float32)


def refusal(error: Exception | str) -> dict[str, Any]:
    return {"type": "error", "message": str(error)}


async def serve(
    policy: DiffusionPolicy,
    contract: dict[str, Any],
    host: str,
    port: int,
    latency: Latency,
    started: Callable[[str, int], None],
) -> None:
    """Serve until cancelled; `started` is told the address, with the port that was free where `port` is 0."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(policy, contract, latency)
        try:
            while True:
                (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
                if size > MAX_BYTES:
                    latency.refused += 1
                    writer.write(encode(refusal(f"a message of {size} bytes: at most {MAX_BYTES}; connect again")))
                    return
                writer.write(encode(session.answer(await reader.readexactly(size))))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the server ends
        finally:
            writer.close()

    warm = Session(policy, contract, Latency())  # torch's first call is slow
    warm.answer(msgpack.packb({"type": "reset", "seed": 0}))
    warm.answer(msgpack.packb({"type": "act", "observation": {p["key"]: p["low"] for p in contract["observation"]}}))
    server = await asyncio.start_server(talk, host, port)
    try:
        started(*server.sockets[0].getsockname()[:2])
        await asyncio.Event().wait()
    finally:
        server.close()


def _decode(body: bytes) -> dict[str, Any]:
    try:
        message = msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"not a msgpack message ({error or type(error).__name__})") from error
    if not isinstance(message, dict):
        raise ValueError(f"message {_short(message)}: give a map with a type")
    return message


def _short(value: Any) -> str:
    text = reprlib.repr(value)  # of few levels, however deep the client nested it
    return text if len(text) <= 60 else f"{text[:57]}..."
