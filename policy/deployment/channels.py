"""Messages of one client over TCP: framed as `client` documents, or by websocket (RFC 6455)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from reconverge.policy.deployment.client import HEADER, MAX_BYTES, encode
from reconverge.policy.deployment.session import RequestError

HTTP = b"GET "
"""The first bytes of a websocket's client; as the length of a framed message, above `MAX_BYTES`."""

DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
PIECE = 1024  # bytes parsed at once: many tiny frames must not hold up other clients
QUIET = logging.getLogger(__name__)  # websockets tells it of each connection
QUIET.setLevel(logging.ERROR)


class Frames:
    """Messages with their length in front; `head` is what was read of the first."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes):
        self._reader, self._writer, self._head = reader, writer, head

    async def receive(self) -> bytes:
        """Return the next message; EOFError if none comes, RequestError if it is too long."""
        head = self._head or await self._reader.readexactly(HEADER.size)
        self._head = b""
        (size,) = HEADER.unpack(head)
        if size > MAX_BYTES:
            raise RequestError(f"a message of {size} bytes: at most {MAX_BYTES}; connect again")
        return await self._reader.readexactly(size)

    async def send(self, reply: Any) -> None:
        """Send a reply, a map, once the client has read enough of those before."""
        self._writer.write(encode(reply))
        await self._writer.drain()

    def end(self, kind: str, said: str) -> None:
        """Say why the connection ends; `kind` is error or failure."""
        self._writer.write(encode({"type": kind, "message": said}))


class WebSocket:
    """Messages by websocket; `head` is what was read of the handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes):
        self._reader, self._writer, self._head = reader, writer, head
        # A browser tells the origin of its page: no page may use a server of this machine.
        self._protocol = ServerProtocol(origins=[None], max_size=MAX_BYTES, logger=QUIET)
        self._frames: deque[Any] = deque()

    async def open(self, answer: Callable[[Request], tuple[int, str] | None]) -> bool:
        """Whether the handshake gave a connection; EOFError if the request does not end.

        `answer` may answer the request by an HTTP status and a text instead.
        """
        try:  # no frame with it, which the protocol would take before its answer
            handshake = self._head + await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise EOFError("a handshake that does not end") from error
        self._protocol.receive_data(handshake)
        for request in self._protocol.events_received():  # none where it is against the rules
            assert isinstance(request, Request)
            said = answer(request)
            self._protocol.send_response(
                self._protocol.reject(*said) if said else self._protocol.accept(request)
            )
        await self._flush()
        return self._protocol.state is State.OPEN

    async def receive(self) -> bytes:
        """Return the next message, text or binary; EOFError if none comes."""
        message = bytearray()
        while (frame := await self._frame()) is not None:
            if frame.opcode in DATA:
                message += frame.data
                if frame.fin:
                    return bytes(message)
        raise EOFError("the websocket is closed")

    async def send(self, reply: Any) -> None:
        """Send binary data, or text, which openpi's client takes for an error."""
        self._queue(reply)
        await self._flush()

    def end(self, kind: str, said: str) -> None:
        """Say why the connection ends."""
        self._queue(said)
        if self._protocol.state is State.OPEN:
            failed = kind == "failure"
            self._protocol.send_close(
                CloseCode.INTERNAL_ERROR if failed else CloseCode.POLICY_VIOLATION
            )
        self._write()

    def _queue(self, reply: bytes | str) -> None:
        if self._protocol.state is not State.OPEN:  # the client has said that it goes
            return
        if isinstance(reply, str):
            self._protocol.send_text(reply.encode())
        else:
            self._protocol.send_binary(reply)

    async def _frame(self) -> Frame | None:
        """Return the next frame; None once the connection is closed."""
        while not self._frames:
            if self._protocol.close_expected() or self._protocol.state is State.CLOSED:
                return None
            data = await self._reader.read(PIECE)
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            await self._flush()  # what the protocol answers by itself: pings, mistakes
            self._frames.extend(self._protocol.events_received())
            await asyncio.sleep(0)
        return self._frames.popleft()

    async def _flush(self) -> None:
        self._write()
        await self._writer.drain()

    def _write(self) -> None:
        data = self._protocol.data_to_send()  # nothing, ever, after its end, an empty piece
        if data:
            self._writer.write(b"".join(data))
        if b"" in data:
            self._writer.write_eof()
