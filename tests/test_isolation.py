"""A process of its own: what it yields comes back, whatever ends it is told, and nothing of it is left or seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.factories import finding, seen
from wirecheck import isolation
from wirecheck.errors import CannotRun
from wirecheck.isolation import ChildFailed, Yielded, isolated
from wirecheck.probe import finding_of
from wirecheck.schema import Fact, Level, MemoryEstimate, MemoryPart, ProbeError

FACT = Fact(key="k", subject="pair", value=1, level=Level.SIMULATED, source="here")
LONG = 20.0
BOTH = pytest.mark.parametrize("fresh", [False, True], ids=["fork", "fresh"])


def work(*acts: Callable[[], Any]) -> Iterator[Yielded]:
    """A fact, then whatever the acts do."""
    yield FACT
    for act in acts:
        act()


def ending(*acts: Callable[[], Any], seconds: float = LONG, fresh: bool = False) -> tuple[list[Yielded], ProbeError]:
    """What came before the end, and the end."""
    before: list[Yielded] = []
    with pytest.raises(ChildFailed) as stop:
        before.extend(isolated(partial(work, *acts), seconds, fresh=fresh))
    return before, stop.value.error


def is_running(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_kinds() -> Iterator[Yielded]:
    parts = (MemoryPart(name="weights", bytes=3, how="sum"),)
    yield finding("WIR06", "ok", "pair", "A \n line break, a tab\t and 東京.", seen("here", 0.1))
    yield FACT
    yield MemoryEstimate(level=Level.INSPECTED, method="formula", parts=parts, assumptions=(), margin=0.1)


def leave(code: int) -> None:
    os._exit(code)


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def say(text: str, times: int = 1) -> None:
    for _ in range(times):
        sys.stdout.write(f"{text}\n")
        os.write(2, text.encode())


def say_for_ever() -> None:
    while True:
        sys.stdout.write("again " * 1000)


def call(action: Callable[[], Any]) -> None:
    action()


def sleep_somewhere() -> None:
    time.sleep(LONG)


def fall() -> None:
    raise ValueError("a latent of 3 slots")


class Odd(BaseException):
    """No Exception, and its words fail."""

    def __str__(self) -> str:
        raise RuntimeError


@BOTH
def test_every_record_comes_back_as_it_was(fresh):
    assert list(isolated(all_kinds, LONG, fresh=fresh)) == list(all_kinds())


@BOTH
def test_an_exception_is_told_with_the_traceback_of_its_own_process(fresh):
    before, error = ending(fall, fresh=fresh)
    assert before == [FACT]
    assert (error.type, error.message) == ("ValueError", "a latent of 3 slots")
    assert 'raise ValueError("a latent of 3 slots")' in error.traceback


def test_a_missing_condition_passes_with_its_reason():
    with pytest.raises(CannotRun, match="no weights"):
        list(isolated(partial(work, partial(call, cannot)), LONG, fresh=False))


def cannot() -> None:
    raise CannotRun("no weights \udc80")


def test_memory_that_ran_out_is_no_crash():
    with pytest.raises(CannotRun, match="not enough memory"):
        list(isolated(partial(work, no_memory), LONG, fresh=False))


def no_memory() -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (partial(sys.exit, 3), "SystemExit", "sys.exit(3) was called"),
        (partial(sys.exit, "bye"), "SystemExit", "sys.exit('bye') was called"),
        (sys.exit, "SystemExit", "sys.exit() was called"),
        (partial(leave, 0), "ProcessExited", "exit status 0"),
        (partial(leave, 7), "ProcessExited", "exit status 7"),
        (partial(die, signal.SIGKILL), "ProcessKilled", "SIGKILL"),
        (partial(die, signal.SIGTERM), "ProcessKilled", "SIGTERM"),
        (partial(os.closerange, 3, 256), "ProcessExited", "exit status 1"),
    ],
)
def test_every_way_of_ending_is_told(act, kind, words):
    before, error = ending(act)
    assert before == [FACT]
    assert (error.type, words in error.message) == (kind, True)
    assert error.traceback


def test_an_exception_that_is_none_and_cannot_speak_is_told():
    def fail() -> None:
        raise Odd

    _, error = ending(fail)
    assert (error.type, error.message) == ("Odd", "its message cannot be made: RuntimeError")


def test_a_fault_in_native_code_is_told_with_the_python_stack():
    def read_nothing() -> None:
        import ctypes

        ctypes.string_at(8)

    _, error = ending(read_nothing)
    assert error.type == "ProcessKilled"
    assert "SIGSEGV" in error.message
    assert "in read_nothing" in error.traceback


@BOTH
def test_out_of_time_is_told_with_the_line_it_hung_on(fresh):
    before, error = ending(sleep_somewhere, seconds=0.5, fresh=fresh)
    assert before == [FACT]
    assert (error.type, "0.5 s" in error.message) == ("TimeoutError", True)
    assert "in sleep_somewhere" in error.traceback


@BOTH
def test_what_is_printed_is_kept_short_and_off_the_terminal(capfd, fresh):
    _, error = ending(partial(say, "x" * 10_000, 200), partial(say, "the end"), fall, fresh=fresh)
    assert "the end of 4,0" in error.traceback
    assert "the end\n" in error.traceback.split("What the process printed")[1]
    assert "ValueError: a latent" in error.traceback
    assert len(error.traceback) < 20_000
    assert capfd.readouterr() == ("", "")


def test_printing_without_end_is_ended_and_its_stack_not_drowned(capfd):
    _, error = ending(say_for_ever, seconds=0.5)
    assert error.type == "TimeoutError"
    assert "in say_for_ever" in error.traceback
    assert len(error.traceback) < 20_000
    assert capfd.readouterr() == ("", "")


def test_a_chatty_process_that_works_is_not_a_failure(capfd):
    assert list(isolated(partial(work, partial(say, "hello")), LONG, fresh=False)) == [FACT]
    assert capfd.readouterr() == ("", "")


def test_its_own_children_end_with_it_and_their_output_is_not_seen(capfd, tmp_path):
    def start() -> None:
        begun = subprocess.Popen(["sh", "-c", "echo noise; exec sleep 60"])
        (tmp_path / "pid").write_text(str(begun.pid))
        sys.exit(2)

    assert ending(start)[1].type == "SystemExit"
    assert not is_running(int((tmp_path / "pid").read_text()))
    assert capfd.readouterr() == ("", "")


def test_a_death_is_seen_although_a_child_of_its_own_holds_the_pipes():
    def fork_and_die() -> None:
        if os.fork() == 0:
            time.sleep(LONG)
        die(signal.SIGKILL)

    assert "SIGKILL" in ending(fork_and_die)[1].message


def test_it_has_no_terminal_no_input_and_no_file_of_the_parents(tmp_path):
    def look() -> None:
        held = {str(d.readlink()) for d in Path("/proc/self/fd").iterdir() if d.exists()}
        raise ValueError(repr([str(tmp_path / "open") in held, sys.stdin.read(), os.getsid(0) == os.getpid()]))

    with (tmp_path / "open").open("w"):
        assert ending(look)[1].message == "[False, '', True]"


def test_ctrl_c_ends_the_process_and_passes_on(tmp_path):
    def wait() -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(LONG)

    def interrupt() -> None:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    killer = threading.Thread(target=interrupt)
    killer.start()
    with pytest.raises(KeyboardInterrupt):
        list(isolated(partial(work, wait), LONG, fresh=False))
    killer.join()
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_ctrl_c_in_the_middle_of_the_fork_is_not_lost(monkeypatch):
    started = []

    def fork(work: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        started.append(real(work, **options))
        return started[0]

    real = isolation._fork
    monkeypatch.setattr(isolation, "_fork", fork)
    with pytest.raises(KeyboardInterrupt):
        list(isolated(partial(work, sleep_somewhere), LONG, fresh=False))
    assert not is_running(started[0].pid)


def test_a_generator_left_in_the_middle_leaves_no_process(tmp_path):
    def wait() -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(LONG)

    def two() -> Iterator[Yielded]:
        (tmp_path / "pid").write_text(str(os.getpid()))
        yield FACT
        wait()

    records = isolated(two, LONG, fresh=False)
    next(records)
    records.close()
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_a_fork_multiplies_and_differentiates_where_the_parent_did_so_on_several_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert step() > 0
        assert list(isolated(partial(work, step), LONG, fresh=False)) == [FACT]
    finally:
        torch.set_num_threads(before)


def step() -> float:
    x = torch.ones(700, 700, requires_grad=True)
    (x @ x).relu().sum().backward()
    return float(x.grad.sum())


def test_nothing_done_there_is_seen_here():
    weight = torch.zeros(3)
    assert list(isolated(partial(work, partial(weight.fill_, 1.0)), LONG, fresh=False)) == [FACT]
    assert weight.tolist() == [0.0, 0.0, 0.0]


def test_a_kernel_short_of_memory_is_told_as_that(monkeypatch):
    counts = iter([4, 5])
    monkeypatch.setattr("wirecheck.isolation._kernel_kills", lambda: next(counts))
    with pytest.raises(CannotRun, match="the kernel killed the process"):
        list(isolated(partial(work, partial(die, signal.SIGKILL)), LONG, fresh=False))


def test_a_platform_without_fork_cannot(monkeypatch):
    monkeypatch.delattr(os, "fork")
    with pytest.raises(CannotRun, match="platform"):
        list(isolated(all_kinds, LONG))


def test_a_long_record_comes_in_time_that_grows_with_its_length_and_one_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(isolation, "MOST_RECORD_BYTES", 1 << 24)
    long = FACT.model_copy(update={"value": "x" * (1 << 23)})
    begin = time.process_time()
    assert list(isolated(lambda: iter((long, FACT)), LONG, fresh=False)) == [long, FACT]
    assert time.process_time() - begin < 1  # every chunk searched once; the whole line each time is 128 times that
    longer = FACT.model_copy(update={"value": "x" * (1 << 24)})
    with pytest.raises(ChildFailed, match="a record of more than 16 MiB came from it"):
        list(isolated(lambda: iter((longer,)), LONG, fresh=False))


def test_what_a_finding_says_at_any_length_is_cut_and_half_a_surrogate_pair_spelt_out():
    long = "x" * 10**6
    found = finding_of("a", "TOK09", f"\ud800{long}", seen(long, long))
    assert found.claim.startswith("\\ud800xxx")
    assert all(len(text) < 10_050 for text in (found.claim, found.evidence[0].source, found.evidence[0].observed))
    assert found.evidence[0].source.endswith("x… (1,000,000 characters)")
