"""Plans for clients of openpi's protocol (github.com/Physical-Intelligence/openpi).

Over a websocket come msgpack maps, arrays in them as openpi's msgpack_numpy writes them. The server
first sends the task's contract. Then each binary message is an observation, the reply to it
`{actions: [Tp, Da], server_timing: {infer_ms}}`; a text message says what is wrong with it.

The protocol has no episodes, so each request stands alone. An observation [size] of each key means
that the robot has been at rest; give [To, size], oldest first, to tell the history. The noise of a
connection comes from seed 0. A `prompt` is not read: a server acts on one task.
"""

from __future__ import annotations

import re
import time
from typing import Any

import msgpack
import numpy as np

from reconverge.envs.render.sight import Sight
from reconverge.policy.deployment.contract import Contract
from reconverge.policy.deployment.observation import Reader, RequestError, short
from reconverge.policy.deployment.session import Latency, decode
from reconverge.policy.model.actor import PolicyActor
from reconverge.policy.model.policy import DiffusionPolicy

NUMBERS = re.compile(r"[<>|=]?[fiu][1248]")
"""Types of arrays that are read; msgpack_numpy writes no others of numbers."""
_STEP = (list, bytes, np.ndarray)  # numbers or a picture


class OpenpiSession:
    """Answer the requests of one connection, which the handshake has admitted."""

    admitted = True

    def __init__(
        self,
        policy: DiffusionPolicy,
        contract: Contract,
        latency: Latency,
        sight: Sight | None = None,
    ):
        self._contract, self._latency = contract, latency
        self._reader = Reader(contract, sight)
        self._actor = PolicyActor(policy, contract.index, rows=1)
        self._actor.begin(0, seed=0)

    def metadata(self) -> bytes:
        """Return the contract, which the client is sent first."""
        return msgpack.packb(self._contract.to_json())

    def answer(self, body: bytes) -> bytes | str:
        """Return the reply to the bytes of one message; text if the client must change it."""
        start = time.perf_counter()
        try:
            observation = decode(body, _unpack_array)
            history = read_history(observation, self._reader)
        except RequestError as error:
            self._latency.refused += 1
            return str(error)
        actions = self._actor.plan([0], history[None])[0]
        seconds = time.perf_counter() - start
        self._latency.add(seconds)
        reply = {"actions": actions, "server_timing": {"infer_ms": 1e3 * seconds}}
        return msgpack.packb(reply, default=_pack_array)


def read_history(observation: dict[Any, Any], reader: Reader) -> np.ndarray:
    """Return the history [To, Do] that an observation of [size] or [To, size] a key tells, and of
    one picture or To of them.
    """
    steps = reader.contract.n_obs_steps
    pictures = {picture.key for picture in reader.contract.pictures}
    values = {
        key: value.tolist() if isinstance(value, np.ndarray) and key not in pictures else value
        for key, value in observation.items()
        if key != "prompt"
    }
    if not all(_is_history(value) for value in values.values()):
        return np.stack([reader.read(values)] * steps)
    for key, value in values.items():
        if len(value) != steps:
            raise RequestError(f"observation {short(key)}: give {steps} steps, got {len(value)}")
    return np.stack(
        [reader.read({key: value[i] for key, value in values.items()}) for i in range(steps)]
    )


def _is_history(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 4
    return isinstance(value, list) and bool(value) and isinstance(value[0], _STEP)


def _unpack_array(value: dict[Any, Any]) -> Any:
    """Return the array or number that a map of msgpack_numpy stands for; other maps unchanged."""
    if b"__npgeneric__" in value:
        return value.get(b"data")
    if b"__ndarray__" not in value:
        return value
    try:
        data, dtype, shape = value[b"data"], value[b"dtype"], value[b"shape"]
        if not NUMBERS.fullmatch(dtype):
            raise ValueError(f"type {dtype[:20]!r}")
        return np.frombuffer(data, dtype).reshape(shape)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RequestError(f"an array that cannot be read ({str(error)[:80]})") from error


def _pack_array(value: np.ndarray) -> dict[bytes, Any]:
    return {
        b"__ndarray__": True,
        b"data": value.tobytes(),
        b"dtype": value.dtype.str,
        b"shape": value.shape,
    }
