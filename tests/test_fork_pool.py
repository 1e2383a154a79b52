"""Work in forked children: answers, and every way of dying."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from wirecheck import fork_pool
from wirecheck.fork_pool import Answered, Died, Limits, free_cpus, in_forks


def work(name: str) -> str:
    match name:
        case "raises":
            raise ValueError(name)
        case "exits":
            sys.exit(3)
        case "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hangs":
            time.sleep(60)
        case "prints":
            sys.stdout.write("to nobody")
            sys.stderr.write("to nobody")
            return "\n" * 200_000
    return f"{name} of {os.getpid()}"


def outcome(name: str, **options: float) -> Answered | Died:
    (one,) = in_forks([name], work, jobs=1, limits=Limits(seconds=options.get("limit_s", 30.0)))
    return one


def test_every_piece_has_a_process_of_its_own() -> None:
    ended = list(in_forks(["a", "b", "c"], work, jobs=2, limits=Limits(seconds=30.0)))
    assert sorted(one.name for one in ended) == ["a", "b", "c"]
    assert all(isinstance(one, Answered) for one in ended)
    pids = {one.text.split()[-1] for one in ended if isinstance(one, Answered)}
    assert len(pids) == 3
    assert str(os.getpid()) not in pids


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("raises", "its process ended with exit status 1"),
        ("exits", "its process ended with exit status 1"),
        ("dies", "its process was ended by SIGSEGV"),
    ],
)
def test_a_death_is_told(name: str, why: str) -> None:
    one = outcome(name)
    assert isinstance(one, Died)
    assert one.why == why


def test_a_hang_ends_at_the_limit_and_delays_nobody() -> None:
    ended = list(in_forks(["hangs", "a", "b"], work, jobs=2, limits=Limits(seconds=1.0)))
    assert [one.name for one in ended] == ["a", "b", "hangs"]
    assert isinstance(ended[-1], Died)
    assert ended[-1].why == "still running after its time limit of 1 s"


def test_output_is_seen_nowhere_and_a_long_answer_is_whole(capfd: pytest.CaptureFixture[str]) -> None:
    one = outcome("prints")
    assert isinstance(one, Answered)
    assert len(one.text) == 200_000
    assert capfd.readouterr() == ("", "")


def test_no_child_outlives_the_generator() -> None:
    mine = ["ps", "-o", "pid=", "--ppid", str(os.getpid())]

    def children() -> int:
        return len(subprocess.run(mine, capture_output=True, text=True, check=False).stdout.split())

    before = children()  # `ps` itself, and what other tests' libraries keep
    ended: Iterator[Answered | Died] = in_forks(["a", "hangs"], work, jobs=2, limits=Limits(seconds=60.0))
    assert next(ended).name == "a"
    assert children() == before + 1
    ended.close()  # type: ignore[attr-defined]
    assert children() == before


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_ctrl_c_is_never_lost_in_a_fork(nth: int) -> None:
    """Sent by another thread, as a kernel may deliver it, so that it comes while the main thread forks."""
    before, seen = signal.getsignal(signal.SIGINT), 0

    def take_all() -> None:
        nonlocal seen
        for _ in in_forks([str(n) for n in range(5000)], work, jobs=2, limits=Limits(seconds=30.0)):
            seen += 1
            if seen == nth:
                threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        take_all()
    assert nth <= seen < 5000
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_the_last_child_is_ended_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    end, seen = fork_pool._end, []

    def interrupted(child: fork_pool._Child, stopped: str | None) -> Answered | Died:
        signal.raise_signal(signal.SIGINT)
        return end(child, stopped)

    monkeypatch.setattr(fork_pool, "_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        seen.extend(in_forks(["a"], work, jobs=1, limits=Limits(seconds=30.0)))
    assert [one.name for one in seen] == ["a"]


def test_nothing_to_do_is_nothing_done() -> None:
    assert list(in_forks([], work, jobs=2, limits=Limits(seconds=1.0))) == []
    assert free_cpus() >= 1
