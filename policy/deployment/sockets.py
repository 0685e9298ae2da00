"""Sessions over TCP: clients of both protocols at one port, in turns and within limits."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any

import msgpack
from websockets.http11 import Request

from reconverge.envs.render.sight import Sight
from reconverge.options import option
from reconverge.policy.deployment.access import is_admitted, open_listener
from reconverge.policy.deployment.channels import HTTP, Frames, WebSocket
from reconverge.policy.deployment.client import HEADER, MAX_BYTES
from reconverge.policy.deployment.contract import Contract
from reconverge.policy.deployment.openpi import OpenpiSession
from reconverge.policy.deployment.session import Latency, RequestError, Session
from reconverge.policy.model.policy import DiffusionPolicy

GREETING = 10.0
"""Seconds from connecting to the first message, by which a client is admitted."""

LINGER = 1.0
"""Seconds in which a client that is turned away can read why."""

PAUSE = 0.5
"""Seconds until the next try to accept a client, where the system has no means."""

STRANGERS = 64
"""Clients at the same time that are not admitted yet, or turned away; more wait in the system's
queue.
"""

ROUNDS = 4
"""Of the event loop between two answers: what has come is read by then and asks for its turn."""

NO_MEANS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(frozen=True)
class Limits:
    """What clients may take of a server."""

    max_connections: int = option(
        64, "clients at a time; one more is told so and disconnected", at_least=1
    )
    idle_timeout: float = option(
        600.0, "seconds without a request after which a client is disconnected", above=0
    )


DEFAULT = Limits()


async def listen(
    policy: DiffusionPolicy,
    contract: Contract,
    host: str,
    port: int,
    latency: Latency,
    on_start: Callable[[str, int], None],
    limits: Limits = DEFAULT,
    secret: str | None = None,
    sight: Sight | None = None,
) -> None:
    """Answer clients until cancelled; `on_start` is told the address.

    With `port` 0 the system chooses a free one. ReconvergeError if the address cannot be had. A bug
    while answering is printed here with its traceback; that client is told so and disconnected.
    """
    with open_listener(host, port, secret) as listener:
        _warm_up(Session(policy, contract, Latency(), sight=sight), contract)
        on_start(*listener.getsockname()[:2])
        await Server(policy, contract, latency, limits, secret, sight).accept(listener)


class Server:
    """The connections of one policy.

    Between two requests that it answers it reads what has come from all of them. Of each it holds
    at most one request that waits, and a few times `MAX_BYTES` of what was sent ahead or not read.
    """

    def __init__(
        self,
        policy: DiffusionPolicy,
        contract: Contract,
        latency: Latency,
        limits: Limits,
        secret: str | None,
        sight: Sight | None,
    ):
        self._policy, self._contract, self._latency = policy, contract, latency
        self._sight = sight
        self._limits, self._secret = limits, secret
        self._turn = asyncio.Lock()  # given in the order of asking
        self._strangers = asyncio.Semaphore(STRANGERS)
        self._clients = 0  # that are admitted

    async def accept(self, listener: socket.socket) -> None:
        """Serve whoever connects, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._strangers.acquire()
                group.create_task(self._serve(await _accept(listener)))

    async def _serve(self, connection: socket.socket) -> None:
        """Talk with a client until one of the two ends it."""
        with ExitStack() as place:
            place.callback(self._strangers.release)
            try:
                await self._attend(connection, place)
            except (EOFError, OSError):
                pass  # the client has gone, or says nothing
            except Exception:
                traceback.print_exc()

    async def _attend(self, connection: socket.socket, place: ExitStack) -> None:
        reader, writer = await asyncio.open_connection(sock=connection, limit=MAX_BYTES // 2)
        writer.transport.set_write_buffer_limits(MAX_BYTES)
        try:
            if self._is_full():
                await self._refuse(reader, writer)
            else:
                await self._talk(reader, writer, place)
            await _part(reader, writer)
        finally:
            writer.transport.abort()

    def _is_full(self) -> bool:
        return self._clients >= self._limits.max_connections

    def _admit(self, place: ExitStack) -> bool:
        """Whether a client gets one of the places, for its own among the strangers."""
        if self._is_full():
            return False
        place.close()
        self._clients += 1
        place.callback(self._leave)
        return True

    def _leave(self) -> None:
        self._clients -= 1

    def _full(self) -> str:
        return (
            f"all {self._limits.max_connections} connections of this server are taken; "
            "try again later, or raise its max_connections="
        )

    def _busy(self, place: ExitStack) -> tuple[int, str] | None:
        """Return the answer to a handshake where there is no place; else it has one by then."""
        return None if self._admit(place) else (HTTPStatus.SERVICE_UNAVAILABLE, f"{self._full()}\n")

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say in the client's protocol, as far as it shows soon, that there is no place."""
        said, head = self._full(), b""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                head = await reader.readexactly(HEADER.size)
        if head == HTTP:
            busy = HTTPStatus.SERVICE_UNAVAILABLE, f"{said}\n"
            async with asyncio.timeout(LINGER):
                await WebSocket(reader, writer, head).open(lambda request: _health(request) or busy)
        else:
            Frames(reader, writer, head).end("error", said)

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: ExitStack
    ) -> None:
        """Answer a client until it must be disconnected; EOFError when it goes."""
        async with asyncio.timeout(self._patience(admitted=False)):
            met = await self._meet(reader, writer, place)
        if met is None:
            return
        channel, session = met
        try:
            await self._converse(channel, session, place)
        except RequestError as error:
            self._latency.refused += 1
            channel.end("error", str(error))
        except TimeoutError:
            channel.end("error", "no request for too long; connect again")
        except (EOFError, OSError):
            raise
        except Exception:
            traceback.print_exc()
            said = "the server failed, not this request; its own output says why"
            channel.end("failure", said)

    async def _meet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, place: ExitStack
    ) -> tuple[Frames, Session] | tuple[WebSocket, OpenpiSession] | None:
        """Tell the protocol by the first bytes; None if a websocket's handshake fails."""
        head = await reader.readexactly(HEADER.size)
        if head != HTTP:
            session = Session(
                self._policy, self._contract, self._latency, self._secret, self._sight
            )
            return Frames(reader, writer, head), session
        channel = WebSocket(reader, writer, head)
        if not await channel.open(
            lambda request: _health(request) or self._unadmitted(request) or self._busy(place)
        ):
            return None
        openpi = OpenpiSession(self._policy, self._contract, self._latency, self._sight)
        await channel.send(openpi.metadata())
        return channel, openpi

    async def _converse(
        self, channel: Frames | WebSocket, session: Session | OpenpiSession, place: ExitStack
    ) -> None:
        """Answer messages one by one; returns once the client is not admitted."""
        admitted = isinstance(session, OpenpiSession)  # by its handshake
        while True:
            async with asyncio.timeout(self._patience(admitted)):
                body = await channel.receive()
            async with self._turn:
                reply = session.answer(body)
                for _ in range(ROUNDS):
                    await asyncio.sleep(0)
            if session.admitted and not admitted:
                admitted = self._admit(place)
                if not admitted:
                    return channel.end("error", self._full())
            async with asyncio.timeout(self._limits.idle_timeout):
                await channel.send(reply)
            if not session.admitted:
                return

    def _patience(self, admitted: bool) -> float:
        """Return the seconds to wait for the next message."""
        idle = self._limits.idle_timeout
        return idle if admitted else min(GREETING, idle)

    def _unadmitted(self, request: Request) -> tuple[int, str] | None:
        """Return the answer to a handshake without the secret, which openpi calls an API key."""
        given = [value.partition(" ")[2] for value in request.headers.get_all("Authorization")]
        if any(is_admitted(value, self._secret) for value in given or [""]):
            return None
        return HTTPStatus.UNAUTHORIZED, "give this server's secret as api_key\n"


async def _accept(listener: socket.socket) -> socket.socket:
    """Return the next client's connection, waiting for means of the system where it lacks them."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return (await loop.sock_accept(listener))[0]
        except OSError as error:
            if error.errno in NO_MEANS:
                _warn_once(f"no further client for now ({error}): see `ulimit -n`")
            await asyncio.sleep(PAUSE)


@cache
def _warn_once(said: str) -> None:
    print(f"warning: {said}", file=sys.stderr, flush=True)


def _health(request: Request) -> tuple[int, str] | None:
    """Return the answer to openpi's question whether a server is up."""
    return (HTTPStatus.OK, "OK\n") if request.path == "/healthz" else None


async def _part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close once the client has read all: the system drops it where bytes of the client wait."""
    async with asyncio.timeout(LINGER):
        await writer.drain()
        writer.write_eof()
        while await reader.read(MAX_BYTES):
            pass
        writer.close()
        await writer.wait_closed()


def _warm_up(session: Session, contract: Contract) -> None:
    """Plan once: torch's first call is slow."""
    observation: dict[str, Any] = {entry.key: entry.low for entry in contract.observation}
    observation |= {each.key: bytes(3 * each.height * each.width) for each in contract.pictures}
    session.answer(msgpack.packb({"type": "reset", "seed": 0}))
    session.answer(msgpack.packb({"type": "act", "observation": observation}))
