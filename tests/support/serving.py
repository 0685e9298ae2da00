"""A server in a thread of this process, and clients that send bytes as they like."""

import asyncio
import socket
import struct
import threading
from contextlib import contextmanager
from functools import partialmethod

import msgpack
import numpy as np

from reconverge.envs.catalog import TASKS
from reconverge.policy.deployment.contract import make_contract
from reconverge.policy.deployment.openpi import OpenpiSession
from reconverge.policy.deployment.session import Latency, Session
from reconverge.policy.deployment.sockets import Limits, listen

MIDDLE = {
    key: value.tolist()
    for key, value in TASKS["lift"].split(np.add(TASKS["lift"].low, TASKS["lift"].high) / 2).items()
}
"""An observation of lift."""


@contextmanager
def serving(source, *, host="127.0.0.1", secret=None, **limits):
    """Serve lift by a checkpoint until the block ends; yields the port."""
    task = source.task("lift")
    contract = make_contract(task, source.policy)
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), []

    def on_start(_, chosen):
        port.append(chosen)
        ready.set()

    limits = Limits(**limits)
    server = loop.create_task(
        listen(source.policy, contract, host, 0, Latency(), on_start, limits, secret, task.sight)
    )

    def run():
        try:
            loop.run_until_complete(server)
        except asyncio.CancelledError:
            pass
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(120)
        yield port[0]
    finally:
        loop.call_soon_threadsafe(server.cancel)
        thread.join(120)
    assert not thread.is_alive()


@contextmanager
def standing_still(port, monkeypatch):
    """A server of this process answers nobody before the block ends, and has all that was sent in
    it by then; yields the sessions that it answers from then on, one for each request.
    """
    still, go_on, answered = threading.Event(), threading.Event(), []

    def answer(session, body, *, answer):
        if still.is_set():
            answered.append(session)
        still.set()
        assert go_on.wait(120)
        return answer(session, body)

    for kind in (Session, OpenpiSession):
        monkeypatch.setattr(kind, "answer", partialmethod(answer, answer=kind.answer))
    with connect(port) as first:
        first.sendall(framed({"type": "contract"}))
        try:
            assert still.wait(120)
            yield answered
        finally:
            go_on.set()


def framed(body):
    """A message, or its bytes, as it goes over TCP."""
    body = body if isinstance(body, bytes) else msgpack.packb(body)
    return struct.pack(">I", len(body)) + body


def connect(port):
    """A connection that waits at most ten seconds."""
    return socket.create_connection(("127.0.0.1", port), 10)


def exchange(port, data):
    """All that the server says to raw bytes until it closes, after this side has nothing more to
    say.
    """
    with connect(port) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        return rest(raw)


def rest(raw):
    """All that the server says until it closes."""
    return b"".join(iter(lambda: raw.recv(65_536), b""))


def assert_turns(answered, clients, rounds):
    """While all of so many clients had requests each had every so many-th answer, at least so many
    rounds long.
    """
    begin = max(answered.index(client) for client in set(answered))
    end = len(answered) - max(answered[::-1].index(client) for client in set(answered))
    shared = answered[begin:end]
    windows = [shared[at : at + clients] for at in range(len(shared) - clients + 1)]
    assert len(shared) >= rounds * clients
    assert all(len(set(window)) == clients for window in windows)
