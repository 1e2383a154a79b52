"""Runs probes in order and puts the result together. Prints nothing; progress is an object handed in."""

from __future__ import annotations

import platform
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from typing import Any, Literal, Protocol

from wirecheck.errors import CannotRun, Interrupted
from wirecheck.isolation import ChildFailed, isolated
from wirecheck.loan import Loan
from wirecheck.probe import ModelBench, PairBench, Probe, Yielded
from wirecheck.probes import MODEL_PROBES, PAIR_PROBES, SINGLE_PROBES
from wirecheck.schema import (
    CheckedModel,
    Crashed,
    Environment,
    Fact,
    Finding,
    Level,
    MemoryEstimate,
    Outcome,
    PairResult,
    Policy,
    ProbeError,
    ProbeRun,
    Ran,
    Severity,
    Skipped,
    Subject,
    TrainSpec,
    Verdict,
    WireSpec,
)
from wirecheck.snapshot import Snapshot
from wirecheck.verdict import Expected, judge
from wirecheck.wires.own import load_factory

PACKAGES = (
    "accelerate",
    "gguf",
    "huggingface_hub",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "wirecheck",
)


class Progress(Protocol):
    """Told what happens while it happens."""

    def started(self, probe: str, subject: Subject) -> None:
        """A probe begins."""

    def ended(self, run: ProbeRun) -> None:
        """A probe has ended, in whichever way."""


class Silent:
    """The progress nobody watches."""

    def started(self, probe: str, subject: Subject) -> None:
        """Says nothing."""

    def ended(self, run: ProbeRun) -> None:
        """Says nothing."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything a check was asked to do, beside the models."""

    wire: WireSpec
    train: TrainSpec
    policy: Policy
    seed: int
    command: str


@dataclass
class _Output:
    """What a probe yielded before it ended."""

    findings: list[Finding] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    memory: MemoryEstimate | None = None


class UndeclaredCode(RuntimeError):
    """A probe emitted a code it does not declare: a bug of ours."""


class SilentProbe(RuntimeError):
    """A probe ended without a claim: silence is not a pass."""


def run_one(probe: Probe, bench: ModelBench | PairBench) -> ProbeRun:
    """Run one probe on one bench. Never raises but for Ctrl-C and the like: what went wrong is in the run."""
    return _run(probe, bench, _Output())


def _run(probe: Probe, bench: ModelBench | PairBench, output: _Output) -> ProbeRun:
    begin = time.perf_counter()
    ending: Literal["ran", "skipped", "crashed"] = "ran"
    reason, error = "", None
    try:
        _collect(probe, bench, output)
    except CannotRun as missing:
        ending, reason = "skipped", missing.reason
    except Exception as failure:  # noqa: BLE001 - a crash of any kind is a result, kept with its story
        ending, error = "crashed", _error(failure)
    kept = _common(probe, bench, output, round(time.perf_counter() - begin, 3))
    if ending == "skipped":
        return Skipped(reason=reason, **kept)
    return Ran(**kept) if error is None else Crashed(error=error, **kept)


def _common(probe: Probe, bench: ModelBench | PairBench, output: _Output, seconds: float) -> dict[str, Any]:
    """What a run of any kind keeps."""
    return {
        "probe": probe.name,
        "subject": bench.subject,
        "level": probe.level,
        "seconds": seconds,
        "findings": tuple(output.findings),
        "facts": tuple(output.facts),
    }


def _collect(probe: Probe, bench: ModelBench | PairBench, output: _Output) -> None:
    for item in _yielded(probe, bench):
        match item:
            case Fact():
                output.facts.append(item)
            case MemoryEstimate():
                output.memory = item
            case Finding():
                if item.code not in probe.codes:
                    raise UndeclaredCode(f"{probe.name} emitted {item.code}, which it does not declare")
                output.findings.append(item)
    if not output.findings:
        raise SilentProbe(f"{probe.name} ended without a claim")


def _yielded(probe: Probe, bench: ModelBench | PairBench) -> Iterator[Yielded]:
    """What the probe yields. Where it would run code of the user's it is run in a process of its own.

    A wire is run from `simulated` up; what is declared or inspected of a pair is read from its files.
    """
    if isinstance(bench, PairBench) and bench.wire.is_own and probe.level.rank >= Level.SIMULATED.rank:
        return isolated(_OnOwnWire(probe, bench), bench.policy.wire_seconds)
    return probe.run(bench)


@dataclass(frozen=True)
class _OnOwnWire:
    """A probe of the user's own wire, to be run elsewhere."""

    probe: Probe
    bench: PairBench

    def __call__(self) -> Iterator[Yielded]:
        """Imports the user's module first: what that raises is a crash with its traceback, and no finding."""
        load_factory(self.bench.wire.name)
        yield from self.probe.run(self.bench)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another interpreter: without the models, which are made again there."""
        bare = replace(self.bench, a=replace(self.bench.a, loan=None), b=replace(self.bench.b, loan=None))
        return _OnOwnWire, (self.probe, bare)


def _error(failure: BaseException) -> ProbeError:
    if isinstance(failure, ChildFailed):
        return failure.error
    message = str(failure).strip() or type(failure).__name__
    story = "".join(traceback.format_exception(failure))
    return ProbeError(type=type(failure).__name__, message=message[:2000], traceback=story[-20000:])


@dataclass
class Check:
    """One check under way: models, probes asked, and the runs made so far."""

    request: Request
    a: Snapshot
    b: Snapshot | None
    progress: Progress
    known: Mapping[Subject, Sequence[ProbeRun]] = field(default_factory=dict)
    """Runs of a model that are there already, from a check of the same bytes that asked the same."""
    lent: Mapping[Subject, Loan] = field(default_factory=dict)
    """What was made of a model for its other pairs, from checks in this process that asked the same."""
    runs: list[ProbeRun] = field(default_factory=list)
    memory: MemoryEstimate | None = None

    @property
    def expected(self) -> tuple[Expected, ...]:
        """Every question this check has to answer."""
        sides: tuple[Subject, ...] = ("a",) if self.b is None else ("a", "b")
        of_models = tuple(Expected(p.name, side, p.level) for side in sides for p in self._model_probes)
        of_pair = () if self.b is None else tuple(Expected(p.name, "pair", p.level) for p in pair_probes(self.request))
        return of_models + of_pair

    def run(self) -> PairResult:
        """Run every probe, model A, model B, then the pair. Raises Interrupted (with what stands) on Ctrl-C."""
        try:
            bench_a = self._model("a", self.a)
            if self.b is not None:
                self._pair(bench_a, self._model("b", self.b))
        except KeyboardInterrupt:
            raise Interrupted(self.result("interrupted")) from None
        return self.result("finished")

    def model(self) -> ModelBench:
        """Run every probe of model A alone, those of a pair's member; the bench it lay on. Raises Interrupted."""
        try:
            return self._model("a", self.a)
        except KeyboardInterrupt:
            raise Interrupted(self.result("interrupted")) from None

    def result(self, status: Literal["started", "finished", "interrupted"]) -> PairResult:
        """The record of this check as it stands."""
        request = self.request
        return PairResult(
            status=status,
            command=request.command,
            seed=request.seed,
            a=checked(self.a),
            b=None if self.b is None else checked(self.b),
            wire=request.wire,
            train=request.train,
            policy=request.policy,
            environment=environment(),
            runs=tuple(self.runs),
            memory=self.memory,
            verdict=self._verdict(status),
        )

    def _verdict(self, status: str) -> Verdict:
        """What the runs come to; a check that did not finish is never compatible, whatever it had settled."""
        verdict = judge(self.runs, self.expected, self.request.policy)
        if status == "finished" or verdict.outcome is not Outcome.COMPATIBLE:
            return verdict
        unfinished = (f"the check was {status} and not finished",)
        return Verdict(outcome=Outcome.UNPROVEN, strength=verdict.strength, because=unfinished)

    def _model(self, side: Literal["a", "b"], snapshot: Snapshot) -> ModelBench:
        request = self.request
        bench = ModelBench(
            wire=request.wire,
            train=request.train,
            policy=request.policy,
            seed=request.seed,
            side=side,
            snapshot=snapshot,
            loan=self.lent.get(side),
        )
        if side in self.known:
            self.runs += self.known[side]
            bench.facts = self._facts()
            return bench
        for probe in self._model_probes:
            self._one(probe, bench, (side,))
            bench.facts = self._facts()
        return bench

    def _pair(self, a: ModelBench, b: ModelBench) -> None:
        request = self.request
        bench = PairBench(
            wire=request.wire,
            train=request.train,
            policy=request.policy,
            seed=request.seed,
            a=a,
            b=b,
            facts=self._facts(),
        )
        for probe in pair_probes(self.request):
            self._one(probe, bench, ("a", "b", "pair"))

    def _one(self, probe: Probe, bench: ModelBench | PairBench, subjects: tuple[Subject, ...]) -> None:
        self.progress.started(probe.name, bench.subject)
        output = _Output()
        reason = why_not(probe, self.request.policy.depth, [r for r in self.runs if r.subject in subjects])
        if reason:
            run: ProbeRun = Skipped(
                probe=probe.name, subject=bench.subject, level=probe.level, seconds=0.0, reason=reason
            )
        else:
            try:
                run = _run(probe, bench, output)
            except KeyboardInterrupt as stop:
                self.runs.append(Crashed(error=_error(stop), **_common(probe, bench, output, 0.0)))
                raise
        self.memory = output.memory or self.memory
        self.runs.append(run)
        self.progress.ended(run)

    @property
    def _model_probes(self) -> tuple[Probe, ...]:
        return _asked(MODEL_PROBES if self.b is not None else MODEL_PROBES + SINGLE_PROBES, self.request)

    def _facts(self) -> tuple[Fact, ...]:
        return tuple(fact for run in self.runs for fact in run.facts)


def pair_probes(request: Request) -> tuple[Probe, ...]:
    """The probes that are asked of a pair, in their order."""
    return _asked(PAIR_PROBES, request)


def _asked(probes: tuple[Probe, ...], request: Request) -> tuple[Probe, ...]:
    return tuple(probe for probe in probes if probe.asked(request.wire, request.policy))


def why_not(probe: Probe, depth: Level, before: Sequence[ProbeRun]) -> str | None:
    """Why a probe is not to be run, given the runs its subject(s) already have; None when it is."""
    return beyond(probe, depth) or unmet(probe, before) or moot(probe, before)


def beyond(probe: Probe, depth: Level) -> str | None:
    """What is said of a probe above the depth asked for; None where it is not."""
    return f"beyond --depth {depth}" if probe.level.rank > depth.rank else None


def unmet(probe: Probe, before: Sequence[ProbeRun]) -> str | None:
    """Which of the probes it requires did not run; None where all did."""
    for run in before:
        if run.probe in probe.requires and not isinstance(run, Ran):
            return f"needs {run.probe} ({run.subject}), which {run.kind}"
    return None


def moot(probe: Probe, before: Sequence[ProbeRun]) -> str | None:
    """What leaves it nothing to ask; None where nothing does."""
    for run in before:
        for finding in run.findings:
            if finding.severity is Severity.BLOCK and finding.code in probe.moot_after:
                return f"moot after {finding.code} {finding.name} ({finding.subject})"
    return None


def check(a: Snapshot, b: Snapshot | None, request: Request, progress: Progress | None = None) -> PairResult:
    """Check one model (`b` None) or a pair. Raises Interrupted with the partial result on Ctrl-C."""
    return Check(request, a, b, progress or Silent()).run()


def environment(packages: Iterable[str] = PACKAGES) -> Environment:
    """The versions on this machine, read from the installed distributions without importing them."""
    return _environment(tuple(packages))


@cache
def _environment(packages: tuple[str, ...]) -> Environment:
    """Read once: every key of an answer asks for it, and distributions do not change under a process that has begun."""
    found: list[tuple[str, str]] = []
    for name in packages:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return Environment(python=platform.python_version(), platform=platform.platform(), packages=tuple(sorted(found)))


def checked(snapshot: Snapshot) -> CheckedModel:
    """Which bytes a snapshot holds."""
    ref = snapshot.ref
    return CheckedModel(ref=ref.text, name=ref.name, kind=ref.kind, commit=snapshot.commit, revision=ref.revision)
