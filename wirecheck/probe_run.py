"""One probe run on one bench: what it yields, and how it ended. The user's own wire runs in a process of its own."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from wirecheck.errors import CannotRun
from wirecheck.isolated_child import Begun, Done, Line
from wirecheck.isolated_child import Yielded as Step
from wirecheck.isolation import START_S, ChildFailed, isolated
from wirecheck.probe import ModelBench, PairBench, Probe, Yielded
from wirecheck.schema import (
    Crashed,
    Fact,
    Finding,
    Level,
    MemoryEstimate,
    Policy,
    ProbeError,
    ProbeRun,
    Ran,
    Skipped,
    Subject,
    WireSpec,
)
from wirecheck.wires.own import load_factory

_GRACE_S = 60.0
_SLOWEST_DISK = 50e6
"""Bytes in a second."""


@dataclass
class Output:
    """What a probe yielded before it ended."""

    findings: list[Finding] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    memory: MemoryEstimate | None = None

    def take(self, item: Yielded) -> None:
        """One more."""
        match item:
            case Fact():
                self.facts.append(item)
            case MemoryEstimate():
                self.memory = item
            case Finding():
                self.findings.append(item)


class UndeclaredCode(RuntimeError):
    """A probe emitted a code it does not declare: a bug of ours."""


class SilentProbe(RuntimeError):
    """A probe ended without a claim: silence is not a pass."""


def run_one(probe: Probe, bench: ModelBench | PairBench) -> ProbeRun:
    """Run one probe on one bench. Never raises but for Ctrl-C and the like: what went wrong is in the run."""
    *_, last = ran(probe, bench)
    assert isinstance(last, Done)
    return last.run


def ran(probe: Probe, bench: ModelBench | PairBench) -> Iterator[Yielded | Done]:
    """What the probe yields, and how it ended."""
    output, begin = Output(), time.perf_counter()
    ending: Literal["ran", "skipped", "crashed"] = "ran"
    reason, error = "", None
    try:
        for item in _claims(probe, bench):
            output.take(item)
            yield item
        if not output.findings:
            raise SilentProbe(f"{probe.name} ended without a claim")
    except CannotRun as missing:
        ending, reason = "skipped", missing.reason
    except Exception as failure:  # noqa: BLE001 - a crash of any kind is a result, kept with its story
        ending, error = "crashed", error_of(failure)
    whole = kept(probe, bench.subject, output, round(time.perf_counter() - begin, 3))
    if ending == "skipped":
        yield Done(run=Skipped(reason=reason, **whole))
        return
    yield Done(run=Ran(**whole) if error is None else Crashed(error=error, **whole))


def kept(probe: Probe, subject: Subject, output: Output, seconds: float) -> dict[str, Any]:
    """What a run of any kind keeps."""
    return {
        "probe": probe.name,
        "subject": subject,
        "level": probe.level,
        "seconds": seconds,
        "findings": tuple(output.findings),
        "facts": tuple(output.facts),
    }


def _claims(probe: Probe, bench: ModelBench | PairBench) -> Iterator[Yielded]:
    for item in _yielded(probe, bench):
        assert not isinstance(item, Begun | Done | Line)
        if isinstance(item, Finding) and item.code not in probe.codes:
            raise UndeclaredCode(f"{probe.name} emitted {item.code}, which it does not declare")
        yield item


def _yielded(probe: Probe, bench: ModelBench | PairBench) -> Iterator[Step]:
    """What the probe yields. Where it would run code of the user's it is run in a process of its own.

    A wire is run from `simulated` up; what is declared or inspected of a pair is read from its files.
    """
    if _runs_own_wire(probe, bench.wire):
        assert isinstance(bench, PairBench)
        return isolated(_OnOwnWire(probe, bench), bench.policy.wire_seconds)
    return probe.run(bench)


def _runs_own_wire(probe: Probe, wire: WireSpec) -> bool:
    return probe.scope == "pair" and wire.is_own and probe.level.rank >= Level.SIMULATED.rank


def limit_s(probe: Probe, wire: WireSpec, policy: Policy, weight_bytes: int) -> float:
    """Seconds by the clock that a probe is given where its check is supervised; it may have to read all the weights."""
    reading_s = weight_bytes / _SLOWEST_DISK
    if _runs_own_wire(probe, wire):
        return START_S + policy.wire_seconds + _GRACE_S + reading_s  # its own process is ended before, and says so
    return policy.probe_seconds + reading_s


@dataclass(frozen=True)
class _OnOwnWire:
    """A probe of the user's own wire, to be run elsewhere."""

    probe: Probe
    bench: PairBench

    def __call__(self) -> Iterator[Step]:
        """Imports the user's module first: what that raises is a crash with its traceback, and no finding."""
        load_factory(self.bench.wire.name)
        yield from self.probe.run(self.bench)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another interpreter: without the models, which are made again there."""
        bare = replace(self.bench, a=replace(self.bench.a, loan=None), b=replace(self.bench.b, loan=None))
        return _OnOwnWire, (self.probe, bare)


def error_of(failure: BaseException) -> ProbeError:
    """What a record keeps of an exception."""
    if isinstance(failure, ChildFailed):
        return failure.error
    message = str(failure).strip() or type(failure).__name__
    story = "".join(traceback.format_exception(failure))
    return ProbeError(type=type(failure).__name__, message=message[:2000], traceback=story[-20000:])
