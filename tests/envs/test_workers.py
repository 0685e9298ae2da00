import signal
import threading
import time

import pytest

from reconverge.envs.workers import WorkerError, Workers
from reconverge.errors import ReconvergeError


@pytest.fixture
def workers():
    made = []

    def make(count, timeout=60.0):
        made.append(Workers(count, timeout))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_run_runs_every_job_once(workers, count):
    for n in (0, 1, 3, 40):
        done = []
        workers(count).run(
            lambda slot, value, done=done: done.append((slot, value)),
            [(i, i * i) for i in range(n)],
        )
        assert sorted(done) == [(i, i * i) for i in range(n)]


def test_run_gives_an_idle_worker_the_jobs_of_a_busy_one(workers):
    """The busy worker waits until the other has done all the rest."""
    others = threading.Semaphore(0)

    def job(slots):
        if slots == [0]:
            assert all(others.acquire(timeout=60.0) for _ in range(19))
        else:
            others.release()

    workers(2).run(job, [([i],) for i in range(20)])


@pytest.mark.parametrize("error", [ZeroDivisionError("broken"), SystemExit(3), KeyboardInterrupt()])
def test_run_names_the_slot_of_a_failing_job(workers, error):
    def job(slots):
        if 7 in slots:
            raise error

    pool = workers(2)
    with pytest.raises(WorkerError, match=type(error).__name__) as caught:
        pool.run(job, [([i],) for i in range(20)])
    assert caught.value.slots == [7]
    assert caught.value.__cause__ is error
    done = []
    pool.run(done.append, [(1,), (2,)])  # the others go on
    assert sorted(done) == [1, 2]


def test_run_names_the_slot_of_a_hanging_job_in_bounded_time(workers):
    """That is, before the job ends by itself."""
    release, ended = threading.Event(), threading.Event()

    def job(slots):
        if 3 in slots:
            release.wait(60.0)
            ended.set()

    with pytest.raises(WorkerError, match=r"no answer in 1 s") as caught:
        workers(2, timeout=1.0).run(job, [([2 * i, 2 * i + 1],) for i in range(3)])
    assert not ended.is_set()
    release.set()
    assert caught.value.slots == [2, 3]


@pytest.mark.parametrize("how", ["interrupted", "hanging", "closed"])
def test_run_refuses_when_late_answers_may_come_or_none(workers, how):
    """They would be taken for those to other jobs."""
    release = threading.Event()
    pool = workers(2, timeout=1.0 if how == "hanging" else 4.0)

    def job(slots):
        if how == "interrupted" and slots == [0]:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        release.wait(60.0)

    if how == "closed":
        pool.close()
    else:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt if how == "interrupted" else WorkerError):
                pool.run(job, [([i],) for i in range(4)])
        finally:
            signal.signal(signal.SIGINT, before)
    release.set()
    with pytest.raises(ReconvergeError, match="interrupted, hang or are closed; make another"):
        pool.run(lambda slots: pytest.fail("it ran"), [([0],)])


def test_run_takes_many_short_jobs_for_no_hang(workers):
    workers(2, timeout=1.0).run(lambda slot: time.sleep(0.02), [(i,) for i in range(160)])


def test_close_ends_the_threads():
    before = threading.active_count()
    pool = Workers(3, 60.0)
    assert threading.active_count() == before + 3
    pool.close()
    assert threading.active_count() == before


def test_a_worker_calls_at_its_end_what_it_was_given():
    """In its own thread, once, also when a job has failed."""
    began, ended = [], []
    pool = Workers(2, 60.0)

    def job(slots):
        thread = threading.current_thread()
        began.append(thread)
        pool.at_end(lambda: ended.append((thread, threading.current_thread())))
        if slots == [3]:
            raise ZeroDivisionError

    with pytest.raises(WorkerError):
        pool.run(job, [([i],) for i in range(4)])
    assert not ended
    pool.close()
    assert sorted(map(id, began)) == sorted(id(thread) for thread, _ in ended)
    assert all(given is by for given, by in ended)
