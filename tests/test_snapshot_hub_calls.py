"""Deadlines, retries and the translation of errors, without a server."""

from __future__ import annotations

import sys
import threading
import time

import huggingface_hub
import pytest

from wirecheck.errors import HubUnreachable, ModelNotFound, OutputNotWritten
from wirecheck.snapshot_hub_calls import WORKERS, AnswerCutShort, ask, together, translate


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_a_stall_ends_at_the_deadline():
    with pytest.raises(HubUnreachable, match="did not arrive within 0 s"):
        ask(_forever, repo="org/name", what="config.json", deadline_s=0.05, page="p")


def _forever() -> None:
    threading.Event().wait(30)


def test_a_full_disk_is_said_as_such(tmp_path):
    def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputNotWritten, match="No space left"):
        ask(full, repo="org/name", what="config.json", deadline_s=5, page="p")


def test_a_pool_closed_by_another_thread_is_tried_again():
    endings = [RuntimeError("the client has been closed"), AttributeError("'NoneType' has no attribute 'stream'")]

    def call() -> str:
        if endings:
            raise endings.pop()
        return "answer"

    assert ask(call, repo="org/name", what="config.json", deadline_s=5, page="p") == "answer"


@pytest.mark.parametrize(("times", "came"), [(4, True), (5, False)])
def test_a_hub_that_is_slow_at_first_is_asked_again(times, came):
    slow = sys.modules[huggingface_hub.errors.HTTPError.__module__.partition(".")[0]].ReadTimeout
    endings = [slow("timed out") for _ in range(times)]

    def call() -> str:
        if endings:
            raise endings.pop()
        return "answer"

    if came:
        assert ask(call, repo="org/name", what="config.json", deadline_s=5, page="p") == "answer"
    else:
        with pytest.raises(HubUnreachable, match="timed out"):
            ask(call, repo="org/name", what="config.json", deadline_s=5, page="p")


def test_they_who_were_refused_at_once_do_not_come_again_at_once(monkeypatch):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    reset = sys.modules[huggingface_hub.errors.HTTPError.__module__.partition(".")[0]].ReadError

    def call() -> None:
        raise reset("connection reset")

    for _ in range(20):
        with pytest.raises(HubUnreachable):
            ask(call, repo="org/name", what="config.json", deadline_s=5, page="p")
    first, second = waited[::2], waited[1::2]
    assert (len(first), len(second), len(set(first)) > 1) == (20, 20, True)
    assert all(1.0 <= one <= 1.5 for one in first)
    assert all(2.0 <= one <= 3.0 for one in second)


def test_an_error_of_ours_is_not_dressed_up_as_the_hubs():
    def bug() -> None:
        raise AssertionError("ours")

    with pytest.raises(AssertionError, match="ours"):
        ask(bug, repo="org/name", what="config.json", deadline_s=5, page="p")


def test_the_cause_speaks_for_its_wrapper():
    wrapper = huggingface_hub.errors.LocalEntryNotFoundError("check your connection")
    wrapper.__cause__ = OSError(28, "No space left on device")
    assert isinstance(translate(wrapper, repo="r", what="w", page="p"), OutputNotWritten)
    assert isinstance(translate(AnswerCutShort("2 of 3"), repo="r", what="w", page="p"), HubUnreachable)


def test_together_keeps_the_order_and_the_first_error():
    assert together([lambda n=n: n * n for n in range(40)]) == [n * n for n in range(40)]

    def fail() -> int:
        raise ModelNotFound("this one")

    with pytest.raises(ModelNotFound, match="this one"):
        together([lambda: 1, fail, lambda: 2])


def test_together_is_bounded_and_stops_asking_after_an_error():
    lock, now, most = threading.Lock(), [0], [0]

    def counted() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.01)
        with lock:
            now[0] -= 1

    together([counted] * (4 * WORKERS))
    assert most[0] <= WORKERS

    begun, gate, asked, done = threading.Barrier(WORKERS), threading.Event(), [], []

    def fail() -> None:
        begun.wait(10)
        raise ModelNotFound("the first one")

    def held() -> None:
        begun.wait(10)
        gate.wait(10)
        done.append(1)

    threading.Timer(0.2, gate.set).start()
    with pytest.raises(ModelNotFound):
        together([fail, *[held] * (WORKERS - 1), *[lambda: asked.append(1)] * 5])
    assert (len(asked), len(done)) == (0, WORKERS - 1)
