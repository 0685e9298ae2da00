"""One client's episode with a served policy: requests to replies, as `client` documents them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from reconverge.envs.render.sight import Sight
from reconverge.errors import unknown
from reconverge.policy.deployment.access import is_admitted
from reconverge.policy.deployment.contract import Contract
from reconverge.policy.deployment.observation import Reader, RequestError, quotable, short
from reconverge.policy.model.actor import PolicyActor
from reconverge.policy.model.policy import DiffusionPolicy

LATEST = 10_000  # plans whose latency is summarised


class Latency:
    """Milliseconds of the latest plans, from decoded request to actions, and counts of requests."""

    def __init__(self) -> None:
        self.plans = self.refused = 0
        self._milliseconds: deque[float] = deque(maxlen=LATEST)

    def add(self, seconds: float) -> None:
        """Count a plan."""
        self.plans += 1
        self._milliseconds.append(1e3 * seconds)

    def summary(self) -> dict[str, Any]:
        """Return the counts and percentiles; percentiles are None before the first plan."""
        p50, p99 = (
            np.percentile(self._milliseconds, [50, 99]).tolist() if self.plans else (None, None)
        )
        return {"plans": self.plans, "refused": self.refused, "p50_ms": p50, "p99_ms": p99}


class Session:
    """The observation history and the noise of one client, as in a rollout of `PolicyActor`.

    With a `secret` it answers nothing before the client has given it. `sight` is that of the
    contract's task.
    """

    def __init__(
        self,
        policy: DiffusionPolicy,
        contract: Contract,
        latency: Latency,
        secret: str | None = None,
        sight: Sight | None = None,
    ):
        self.admitted = secret is None
        self._secret = secret
        self._reader, self._latency = Reader(contract, sight), latency
        self._actor = PolicyActor(policy, contract.index, rows=1)
        self._steps = policy.n_obs_steps
        self._history: deque[np.ndarray] = deque(maxlen=self._steps)
        self._begun = False
        self._requests: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "contract": lambda _: {"type": "contract", **contract.to_json()},
            "reset": self._reset,
            "act": self._act,
            "observe": self._observe,
            "statistics": lambda _: {"type": "statistics", **latency.summary()},
            "hello": self._hello,
        }

    def answer(self, body: bytes) -> dict[str, Any]:
        """Return the reply to the bytes of one message.

        Only a RequestError becomes a reply; any other exception is a bug of the server.
        """
        try:
            message = decode(body)
            kind = message.get("type")
            if not self.admitted and kind != "hello":
                raise RequestError("give this server's secret first: {type: hello, secret: ...}")
            if not isinstance(kind, str) or kind not in self._requests:
                raise unknown("type of request", quotable(kind), self._requests, RequestError)
            return self._requests[kind](message)
        except RequestError as error:
            self._latency.refused += 1
            return {"type": "error", "message": str(error)}

    def _hello(self, message: dict[str, Any]) -> dict[str, Any]:
        if not is_admitted(message.get("secret"), self._secret):
            self.admitted = False
            raise RequestError("not this server's secret; connect again with that of its operator")
        self.admitted = True
        return {"type": "welcome"}

    def _reset(self, message: dict[str, Any]) -> dict[str, Any]:
        seed = message.get("seed")
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise RequestError(f"seed={short(seed)}: give a whole number from 0 to 2^63 - 1")
        self._actor.begin(0, seed)
        self._history.clear()
        self._begun = True
        return {"type": "ready"}

    def _observe(self, message: dict[str, Any]) -> dict[str, Any]:
        if not self._begun:
            raise RequestError("no episode yet: send {type: reset, seed: 0} first")
        observation = self._reader.read(message.get("observation"))
        self._history.extend([observation] * (1 if self._history else self._steps))
        return {"type": "observed"}

    def _act(self, message: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        self._observe(message)
        actions = self._actor.act([0], np.stack(self._history)[None])[0].tolist()
        self._latency.add(time.perf_counter() - start)
        return {"type": "actions", "actions": actions}


def decode(
    body: bytes, object_hook: Callable[[dict[Any, Any]], Any] | None = None
) -> dict[Any, Any]:
    """Return the map that the bytes of a message are; `object_hook` replaces maps within it.

    RequestError if they are none.
    """
    try:
        message = msgpack.unpackb(body, object_hook=object_hook)
    except RequestError:
        raise
    except (ValueError, msgpack.UnpackException) as error:
        raise RequestError(f"not a msgpack message ({error or type(error).__name__})") from error
    if not isinstance(message, dict):
        raise RequestError(f"message {short(message)}: give a map")
    return message
