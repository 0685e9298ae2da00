"""Threads that step episodes, and notice when one of them fails or never comes back."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from threading import Thread, current_thread, local
from typing import Any

from reconverge.errors import ReconvergeError

Job = tuple[Any, ...]  # arguments of the function; the first is the sequence of its slots
CHECKS_PER_TIMEOUT = 4  # of all workers, within the time that a job may take

MOST_SLOTS, MOST_WORKERS = 10_000, 1_000
"""Limits of the options for episodes at the same time and for the threads that step them."""


def available_cores() -> int:
    """Return the number of cores that this process may use: a cluster may grant few of a node's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerError(RuntimeError):
    """A job failed, or jobs hang; names their slots."""

    def __init__(self, slots: list[int], reason: str):
        super().__init__(reason)
        self.slots = slots


class Workers:
    """Share jobs out among `count` threads; a job that takes `timeout` seconds, or up to a half
    more, hangs.

    Threads suffice because stepping is native and does not hold the interpreter lock. They are
    daemons, so that one that hangs in native code does not keep the program from ending.
    """

    def __init__(self, count: int, timeout: float):
        self.timeout = timeout
        self._idle = True  # all have answered, and none has been ended
        self._done: SimpleQueue[WorkerError | None] = SimpleQueue()
        self._inboxes: list[SimpleQueue] = [SimpleQueue() for _ in range(count)]
        self._current: list[Job | None] = [None] * count
        self._of_thread = local()
        self._threads = [
            Thread(target=self._serve, args=(worker,), daemon=True) for worker in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self._inboxes)

    def run(self, function: Callable[..., None], jobs: Iterable[Job]) -> None:
        """Call `function(*job)` for every job, in any order. Raises WorkerError for the first that
        fails or hangs, ReconvergeError after a hang, an interruption (Ctrl-C) or `close`.
        """
        if not self._idle:  # late answers would be taken for those to these jobs
            raise ReconvergeError(
                "the threads of this environment were interrupted, hang or are closed; make another"
            )
        self._idle = False
        shared = deque(jobs)
        try:
            used = self._inboxes[: len(shared)]
            for inbox in used:
                inbox.put((function, shared.popleft))
            failures = [failure for failure in [self._wait() for _ in used] if failure is not None]
        finally:
            shared.clear()
        self._idle = True
        if failures:
            raise failures[0]

    def at_end(self, function: Callable[[], None]) -> None:
        """Let the calling worker call `function` when it ends; for what a thread must free itself,
        such as OpenGL's context.
        """
        self._of_thread.endings.callback(function)

    def close(self) -> None:
        """End the threads; one that hangs is left behind."""
        self._idle = False
        for inbox in self._inboxes:
            inbox.put(None)
        for thread in self._threads:
            if thread is not current_thread():
                thread.join(timeout=1.0)

    def _wait(self) -> WorkerError | None:
        """Wait for a worker that is done; return its failure or None.

        A job hangs that is found running in more than CHECKS_PER_TIMEOUT checks. Checks are
        counted, not seconds, so that a process that was suspended for a while does not hang.
        """
        running: list[tuple[Job | None, int]] = [(None, 0)] * len(self)  # job, checks that found it
        while True:
            try:
                return self._done.get(timeout=self.timeout / CHECKS_PER_TIMEOUT)
            except Empty:
                pairs = zip(list(self._current), running, strict=True)
                running = [(job, n + 1 if job is before else 1) for job, (before, n) in pairs]
                hanging = [
                    slot
                    for job, n in running
                    if job is not None and n > CHECKS_PER_TIMEOUT
                    for slot in job[0]
                ]
                if hanging:
                    raise WorkerError(hanging, f"no answer in {self.timeout:g} s") from None

    def _serve(self, worker: int) -> None:
        with ExitStack() as self._of_thread.endings:
            self._take_work(worker)

    def _take_work(self, worker: int) -> None:
        while True:
            work = self._inboxes[worker].get()
            if work is None:
                return
            failure = self._share(worker, *work)
            del work  # a waiting thread keeps no simulation alive
            self._current[worker] = None
            self._done.put(failure)
            del failure

    def _share(
        self, worker: int, function: Callable[..., None], take: Callable[[], Job]
    ) -> WorkerError | None:
        """Take jobs until none is left or one fails.

        Not their deque: one who looks into it, as checks of types do, may find it changed.
        """
        while True:
            try:
                self._current[worker] = job = take()
            except IndexError:
                return None
            try:
                function(*job)
            except BaseException as error:  # whatever it was, the caller is told
                failure = WorkerError(list(job[0]), f"{type(error).__name__}: {error}")
                failure.__cause__ = error
                return failure
