"""The confined process of a check: what ends it costs one probe, is told, and the rest goes on."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from tests.test_runner import SEEN
from wirecheck import runner, supervision, zoo_warm
from wirecheck.demo import demo_folders
from wirecheck.errors import Interrupted
from wirecheck.probe import Probe
from wirecheck.runner import Check, Request, Silent
from wirecheck.schema import Level, Outcome, PairResult, Policy, Severity, TrainSpec, WireSpec
from wirecheck.snapshot import parse_ref, take
from wirecheck.supervision import supervised

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere probes run in the process itself")


def probe(name: str, act: Callable[[], object] | None = None, **more) -> Probe:
    """One that yields a finding, does something, and yields another."""

    def run(bench):
        yield bench.ok("CFG01", "It began.", SEEN)
        told = None if act is None else act()
        yield bench.fact("told", told if isinstance(told, int | str) else None, Level.INSPECTED, "here")
        yield bench.ok("CFG02", "It ended.", SEEN)

    asked = {"level": Level.INSPECTED, "needs": "files"} | more
    return Probe(name=name, question="?", scope="model", codes=("CFG01", "CFG02"), run=run, **asked)


@pytest.fixture
def check(monkeypatch):
    """check(act, **of the probe) -> the check of a built-in model by that probe between two others."""

    def made(act: Callable[[], object], policy: Policy | None = None, **more) -> Check:
        monkeypatch.setattr(runner, "MODEL_PROBES", (probe("before"), probe("it", act, **more), probe("after")))
        monkeypatch.setattr(runner, "SINGLE_PROBES", ())
        asked = {"wire": WireSpec(), "train": TrainSpec(), "policy": policy or Policy(required=Level.INSPECTED)}
        request = Request(**asked, seed=0, command="wirecheck model x")
        return Check(request, take(parse_ref(str(demo_folders()[0]))), None, Silent())

    return made


def fault() -> None:
    ctypes.string_at(0)


def panic() -> None:
    raise SystemExit("the library gave up")


def swell() -> None:
    bytearray(1 << 40)


ENDINGS = {
    "SIGSEGV": (fault, "ProcessKilled", "ended the process by SIGSEGV"),
    "SIGABRT": (os.abort, "ProcessKilled", "ended the process by SIGABRT"),
    "exit": (lambda: os._exit(0), "ProcessExited", "ended the process without an error"),
    "panic": (panic, "SystemExit", "ended the process by SystemExit: sys.exit('the library gave up') was called"),
    "memory": (swell, "MemoryError", "asked for more than 8 GiB of memory"),
}


@pytest.mark.parametrize("how", sorted(ENDINGS))
def test_a_death_is_a_finding_and_the_rest_goes_on(check, how):
    act, kind, words = ENDINGS[how]
    result = supervised(check(act))
    before, it, after = result.runs
    assert (before.kind, it.kind, after.kind) == ("ran", "crashed", "ran")
    assert (it.error.type, [f.code for f in it.findings]) == (kind, ["CFG01", "ENV02"])
    assert it.findings[1].claim == f"The probe it {words}."
    assert it.findings[1].severity is Severity.BLOCK
    assert result.verdict.outcome is Outcome.INCOMPATIBLE


def test_above_the_files_a_death_warns_and_leaves_it_unproven(check):
    it = (result := supervised(check(fault, level=Level.SIMULATED))).runs[1]
    assert [(f.code, f.severity) for f in it.findings][1:] == [("ENV02", Severity.WARN)]
    assert "ctypes" in it.error.traceback  # the stack of the moment
    assert result.verdict.outcome is Outcome.COMPATIBLE  # what was required stands on the other two ...
    strict = supervised(check(fault, Policy(required=Level.SIMULATED), level=Level.SIMULATED))
    assert strict.verdict.outcome is Outcome.UNPROVEN  # ... and here it was required


def test_a_kill_from_outside_is_no_finding(check):
    it = supervised(check(lambda: os.kill(os.getpid(), signal.SIGTERM))).runs[1]
    assert (it.kind, it.error.type, [f.code for f in it.findings]) == ("crashed", "ProcessKilled", ["CFG01"])


def test_processor_time_without_end_is_a_finding(check, monkeypatch):
    monkeypatch.setattr(supervision, "FILES_CPU_S", 1)

    def spin() -> None:
        while True:
            pass

    it = supervised(check(spin)).runs[1]
    assert it.findings[1].claim == "The probe it took more than 1 s of processor time."


def test_a_machine_too_busy_is_no_finding(check):
    it = supervised(check(lambda: time.sleep(600), Policy(required=Level.INSPECTED, probe_seconds=1))).runs[1]
    assert (it.kind, "too busy" in it.reason) == ("skipped", True)


def test_a_slow_run_is_a_crash_that_names_its_limit(check):
    policy = Policy(required=Level.SIMULATED, probe_seconds=1)
    result = supervised(check(lambda: time.sleep(600), policy, level=Level.SIMULATED))
    it = result.runs[1]
    assert (it.kind, "policy.probe_seconds" in it.error.message) == ("crashed", True)
    assert result.verdict.outcome is Outcome.UNPROVEN
    assert [f.code for f in it.findings] == ["CFG01"]


def test_bounds_of_one_probe_are_not_those_of_the_next(check, monkeypatch):
    monkeypatch.setattr(supervision, "FILES_BYTES", 1 << 26)
    grown = check(lambda: len(bytes(1 << 32)), level=Level.SIMULATED)
    assert supervised(grown).runs[1].kind == "ran"
    assert supervised(check(lambda: len(bytes(1 << 32)))).runs[1].error.type == "MemoryError"


def test_what_a_probe_sees_is_confined_and_without_the_token(check, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    def look() -> str:
        try:
            (tmp_path / "here").touch()
        except OSError as error:
            return f"{type(error).__name__}, {os.environ.get('HF_TOKEN')}"
        return "written"

    assert supervised(check(look)).runs[1].facts[0].value == "PermissionError, None"
    trusted = Policy(required=Level.INSPECTED, trust_remote_code=True)
    assert supervised(check(look, trusted)).runs[1].facts[0].value == "written"


def test_the_result_is_that_of_one_process(check, monkeypatch):
    def bare(result: PairResult) -> PairResult:
        return result.model_copy(update={"runs": tuple(run.model_copy(update={"seconds": 0}) for run in result.runs)})

    one = check(lambda: 7)
    assert bare(supervised(replace(one, runs=[]))) == bare(replace(one, runs=[]).run())


def test_what_was_printed_is_kept_with_the_death_and_off_the_terminal(check, capfd):
    def say() -> None:
        os.write(2, b"thread panicked at 'no such token'\n")
        os.abort()

    it = supervised(check(say)).runs[1]
    assert "no such token" in it.error.traceback
    assert "no such token" not in "".join(capfd.readouterr())


def test_ctrl_c_ends_the_child_and_keeps_what_it_told(check, tmp_path, monkeypatch):
    one = check(lambda: time.sleep(600))
    seen: list[int] = []

    class Stop(Silent):
        def started(self, probe: str, subject: str) -> None:
            if probe == "it":
                seen.extend(children() - before)
                raise KeyboardInterrupt

    def children() -> set[int]:
        return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))

    before = children()

    with pytest.raises(Interrupted) as stop:
        supervised(replace(one, progress=Stop()))
    assert [run.kind for run in stop.value.partial.runs] == ["ran", "crashed"]
    assert seen
    assert not any(Path(f"/proc/{pid}").exists() for pid in seen)


def test_a_parent_that_is_killed_takes_the_child_along(check, tmp_path):
    said = tmp_path / "pid"
    one = check(lambda: (said.write_text(str(os.getpid())), time.sleep(600)), Policy(trust_remote_code=True))
    pid = os.fork()
    if pid == 0:
        supervised(one)
        os._exit(0)
    while not (said.is_file() and said.read_text()):
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    child = Path(f"/proc/{said.read_text()}/stat")
    until = time.monotonic() + 30
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < until:
        time.sleep(0.01)
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"


def test_where_all_before_is_known_the_first_probe_gets_its_libraries(check, monkeypatch):
    """A new process, and a pair whose models an earlier one checked: what comes first needs torch."""
    one = check(lambda: 7, needs="torch")
    monkeypatch.setattr(runner, "MODEL_PROBES", runner.MODEL_PROBES[1:])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    torch = ModuleType("torch")
    torch.set_num_threads = lambda _: None
    asked: list[bool] = []

    def imported() -> None:
        assert not asked, "asked for again: a child ended before its first probe"
        asked.append(True)
        monkeypatch.setitem(sys.modules, "torch", torch)

    monkeypatch.setattr(zoo_warm, "import_libraries", imported)
    monkeypatch.setattr(zoo_warm, "import_class", lambda _: None)
    result = supervised(one)
    assert (asked, [run.kind for run in result.runs]) == ([True], ["ran", "ran"])


def test_nothing_is_left_in_the_temporary_folder(check, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    supervised(check(fault))
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
