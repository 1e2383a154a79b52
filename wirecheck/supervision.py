"""A check's probes run in a confined child; this process keeps what they say, and tells of their death.

The child is a fork made before anything of a model was loaded. It goes through the probes in order; one that ends the
child ends alone: it is told as crashed, by ENV02 where the model's files did it, and another child takes up the rest.
What the child may do is in `confinement`; what a probe may take, in `_bound`.

On Linux. Elsewhere the probes run in this process: what forks there is not dependable, and no fence is to be had.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from wirecheck import zoo_warm
from wirecheck.child_process import OWN_DEATHS
from wirecheck.confinement import Fence, bound_cpu, bound_memory, confine
from wirecheck.errors import CannotRun
from wirecheck.isolated_child import Begun, Done
from wirecheck.isolated_child import Yielded as Step
from wirecheck.isolation import START_S, TOO_LONG, ChildFailed, Words, isolated
from wirecheck.model_types import known_model_types
from wirecheck.probe import Probe, finding_of
from wirecheck.runner import Check, Silent
from wirecheck.schema import Crashed, Evidence, Finding, Level, PairResult, ProbeError, ProbeRun, Severity, Skipped
from wirecheck.scratch import Scratch

CODE = "ENV02"
FILES_CPU_S = 300
"""Processor time of one probe that reads files and builds shapes: real models take it seconds."""
_SLOWEST_DIGEST = 100e6
"""Bytes in a second of processor time: a lock's digests are of every byte of the weights."""
FILES_BYTES = 8 << 30
"""Memory that such a probe may write to beside what the process holds."""
WITH_PROGRAMS = ("offline",)
"""Probes that start a process of their own and fence that: they run in a child of their own, which may."""
_PROBES = Words("the probe", "which is what policy.probe_seconds gives one probe")
_NO_MEMORY = "not enough memory on this machine"


def supervised(check: Check) -> PairResult:
    """As `Check.run`, in confined children. Raises Interrupted (with what stands) on Ctrl-C."""
    if sys.platform != "linux":
        return check.run()
    loads, tried = "torch" in sys.modules, False
    try:
        while (pending := check.pending) is not None:
            if tried and check.probe(pending.probe).needs != "files":
                _import_libraries(check)
                loads = True
            _one_child(check, alone=pending.probe if pending.probe in WITH_PROGRAMS else None, loads=loads)
            tried = True
    except KeyboardInterrupt as stop:
        raise check.interrupted(stop) from None
    return check.result("finished")


def _one_child(check: Check, *, alone: str | None, loads: bool) -> None:
    """Probes until none is left, one needs another child, or one ends this. Raises ChildFailed where none began."""
    since = time.perf_counter()
    try:
        with Scratch() as scratch:
            work = _Work(replace(check, progress=Silent(), runs=list(check.runs)), scratch, alone, loads)
            for step in isolated(work, START_S, fresh=False, words=_PROBES, one_thread=has_native_threads()):
                if isinstance(step, Begun):
                    since = time.perf_counter()
                check.watch(step)
    except CannotRun as missing:
        if check.under_way is None:
            raise
        check.ended(Skipped(reason=missing.reason, **check.so_far(_since(since))))
    except ChildFailed as died:
        if check.under_way is None:
            raise RuntimeError(f"the process for the probes failed\n{died.error.traceback}") from died
        _died(check, died.error, _since(since))


def _import_libraries(check: Check) -> None:
    """What the next children would import each for itself; of a model only the name of its type is used."""
    check.progress.note("importing torch and transformers …")
    with suppress(ImportError):  # a package that is missing or broken is told by the probe that needs it
        zoo_warm.import_libraries()
        for kind in {fact.value for run in check.runs for fact in run.facts if fact.key == "model_type"}:
            if isinstance(kind, str) and kind in known_model_types():
                zoo_warm.import_class(kind)


def _since(begin: float) -> float:
    return round(time.perf_counter() - begin, 3)


def has_native_threads() -> bool:
    """Whether a library has a pool of threads here, which a fork would wait for in vain.

    Such threads have the process's own name; those of Python are known, and a runtime's like hf_xet's have names.
    """
    known = {thread.native_id for thread in threading.enumerate()}
    own = Path("/proc/self/comm").read_bytes()
    tasks = (task for task in Path("/proc/self/task").iterdir() if int(task.name) not in known)
    return any((task / "comm").read_bytes() == own for task in tasks)


# --- in the child ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    """The probes that are left, in the child."""

    check: Check
    scratch: Path
    alone: str | None
    """The only probe to run."""
    loads: bool
    """Whether probes may load torch: the parent has, or could not."""

    def __call__(self) -> Iterator[Step]:
        """Confines the process, then goes through the steps."""
        request = self.check.request
        chosen = request.wire.is_own or request.policy.trust_remote_code
        alone = self.alone is not None
        confine(Fence(None if chosen else self.scratch, programs=chosen or alone, sockets=alone))
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        bounded = False
        for step in self.check.steps():
            if isinstance(step, Begun):
                probe = self.check.probe(step.probe)
                if (probe.name in WITH_PROGRAMS) != alone:
                    return
                if not step.skipped and probe.needs != "files" and not self.loads:
                    return
                bounded = _bound(probe, self.check.weight_bytes)
            told = _within(step) if bounded else step
            self.check.watch(told)
            yield told


def _bound(probe: Probe, weight_bytes: int) -> bool:
    """Sets the bounds of the probe about to run: whether it has any beside the clock."""
    files_only = probe.level.rank <= Level.INSPECTED.rank
    bound_cpu(_cpu_s(weight_bytes) if files_only else None)
    bound_memory(FILES_BYTES if files_only else None)
    return files_only


def _cpu_s(weight_bytes: int) -> int:
    return FILES_CPU_S + int(weight_bytes / _SLOWEST_DIGEST)


def _within(step: Step) -> Step:
    """A bounded probe that was given no more memory met its bound, and not the machine's."""
    if not isinstance(step, Done):
        return step
    run = step.run
    met = (isinstance(run, Skipped) and run.reason.startswith(_NO_MEMORY)) or (
        isinstance(run, Crashed) and run.error.type == "MemoryError"
    )
    if not met:
        return step
    error = ProbeError(type="MemoryError", message=f"more than {FILES_BYTES >> 30} GiB were asked for", traceback="")
    kept = {name: getattr(run, name) for name in ("probe", "subject", "level", "seconds", "facts")}
    found = _finding(run.level, run, f"asked for more than {FILES_BYTES >> 30} GiB of memory")
    return Done(run=Crashed(error=error, findings=(*run.findings, found), **kept))


# --- a death -----------------------------------------------------------------------------------------------------


def _died(check: Check, error: ProbeError, seconds: float) -> None:
    """The probe under way ended its process: its run, with a finding where it and not the machine did that."""
    begun = check.under_way
    assert begun is not None
    probe = check.probe(begun.probe)
    files_only = probe.level.rank <= Level.INSPECTED.rank
    kept = check.so_far(seconds)
    if error.type == "TimeoutError" and files_only:
        words = f"still running after {begun.limit_s:g} s, and had not been given its processor time"
        check.ended(Skipped(reason=f"{words}: this machine is too busy to tell", **kept))
        return
    how = _own_doing(error, _cpu_s(check.weight_bytes))
    if how is not None:
        kept["findings"] += (_finding(probe.level, begun, how),)
    check.ended(Crashed(error=error, **kept))


def _own_doing(error: ProbeError, cpu_s: int) -> str | None:
    """How the probe ended its process; None where that came from outside, or took too long on this machine."""
    match error.type:
        case "TimeoutError":
            return None
        case kind if kind == TOO_LONG:
            return f"was ended: {error.message}"
        case "ProcessExited":
            return "ended the process without an error"
        case "ProcessKilled":
            name = error.message.rpartition(" ")[2]
            if name == "SIGXCPU":
                return f"took more than {cpu_s} s of processor time"
            return f"ended the process by {name}" if name in OWN_DEATHS else None
        case kind:  # of those that `except Exception` does not catch
            return f"ended the process by {kind}: {' '.join(error.message.split())[:200]}"


def _finding(level: Level, of: Begun | ProbeRun, how: str) -> Finding:
    """ENV02. A block where the files alone were read: whoever loads them meets the same. Else a warning."""
    severity = Severity.BLOCK if level is Level.INSPECTED else Severity.WARN
    seen = Evidence(level=level, source=f"the probe {of.probe} in a process of its own", observed=how)
    return finding_of(of.subject, CODE, f"The probe {of.probe} {how}.", seen, severity=severity)
