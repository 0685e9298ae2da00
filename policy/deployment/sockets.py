"""Sessions over TCP: one a connection, framed as `client` documents."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable

import msgpack

from reconverge.errors import ReconvergeError
from reconverge.policy.deployment.client import HEADER, MAX_BYTES, encode
from reconverge.policy.deployment.contract import Contract
from reconverge.policy.deployment.session import Latency, Session
from reconverge.policy.model.policy import DiffusionPolicy


async def listen(
    policy: DiffusionPolicy,
    contract: Contract,
    host: str,
    port: int,
    latency: Latency,
    on_start: Callable[[str, int], None],
) -> None:
    """Answer clients until cancelled; `on_start` is told the address.

    With `port` 0 the system chooses a free one. ReconvergeError if the address cannot be had. A bug
    while answering is printed here with its traceback; that client is told so and disconnected.
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _talk(Session(policy, contract, latency), latency, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the server ends
        finally:
            writer.close()

    _warm_up(Session(policy, contract, Latency()), contract)
    try:
        server = await asyncio.start_server(talk, host, port)
    except (OSError, OverflowError) as error:
        raise ReconvergeError(
            f"host={host} port={port}: cannot listen there ({error}); choose another"
        ) from error
    try:
        on_start(*server.sockets[0].getsockname()[:2])
        await asyncio.Event().wait()
    finally:
        server.close()


async def _talk(
    session: Session, latency: Latency, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer one client's messages; returns if the connection must be closed."""
    while True:
        (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
        if size > MAX_BYTES:
            latency.refused += 1
            said = f"a message of {size} bytes: at most {MAX_BYTES}; connect again"
            writer.write(encode({"type": "error", "message": said}))
            return
        body = await reader.readexactly(size)
        try:
            reply = session.answer(body)
        except Exception:
            traceback.print_exc()
            said = "the server failed, not this request; its own output says why"
            writer.write(encode({"type": "failure", "message": said}))
            return
        writer.write(encode(reply))
        await writer.drain()


def _warm_up(session: Session, contract: Contract) -> None:
    """Plan once: torch's first call is slow."""
    observation = {entry.key: entry.low for entry in contract.observation}
    session.answer(msgpack.packb({"type": "reset", "seed": 0}))
    session.answer(msgpack.packb({"type": "act", "observation": observation}))
