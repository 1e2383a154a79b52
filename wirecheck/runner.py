"""Runs probes in order and puts the result together. Prints nothing; progress is an object handed in.

A check is a row of steps, which `Check.steps` makes and `Check.watch` takes: in this process one after the other, or
made in a confined child and taken here, as `supervision` does.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any, Literal, Protocol

from wirecheck.errors import Interrupted
from wirecheck.isolated_child import Begun, Done
from wirecheck.isolated_child import Yielded as Step
from wirecheck.loan import Loan
from wirecheck.probe import ModelBench, PairBench, Probe
from wirecheck.probe_run import Output, error_of, kept, limit_s, ran
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

    def note(self, words: str) -> None:
        """What is under way outside any probe."""

    def started(self, probe: str, subject: Subject) -> None:
        """A probe begins."""

    def ended(self, run: ProbeRun) -> None:
        """A probe has ended, in whichever way."""


class Silent:
    """The progress nobody watches."""

    def note(self, words: str) -> None:
        """Says nothing."""

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
    under_way: Begun | None = None
    output: Output = field(default_factory=Output)
    """What the probe under way yielded so far."""

    @property
    def pending(self) -> Expected | None:
        """The first question that has no answer yet, in the order in which they are asked."""
        there = {(run.probe, run.subject) for run in self.runs}
        asked = (one for one in self.expected if one.subject not in self.known)
        return next((one for one in asked if (one.probe, one.subject) not in there), None)

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
            for step in self.steps():
                self.watch(step)
        except KeyboardInterrupt as stop:
            raise self.interrupted(stop) from None
        return self.result("finished")

    def model(self) -> ModelBench:
        """Run every probe of model A alone, those of a pair's member; the bench it lay on. Raises Interrupted."""
        bench = self._model("a", self.a)
        try:
            for step in self._model_steps(bench):
                self.watch(step)
        except KeyboardInterrupt as stop:
            raise self.interrupted(stop) from None
        return bench

    def steps(self) -> Iterator[Step]:
        """Every probe that has no run yet: that it begins, what it yields, how it ended. Each is to be watched."""
        bench_a = self._model("a", self.a)
        yield from self._model_steps(bench_a)
        if self.b is not None:
            bench_b = self._model("b", self.b)
            yield from self._model_steps(bench_b)
            yield from self._pair_steps(bench_a, bench_b)

    def watch(self, step: Step) -> None:
        """Take one step: what it says is kept, and progress is told of it."""
        match step:
            case Begun(probe=probe, subject=subject):
                self._add_known(subject)
                self.under_way, self.output = step, Output()
                self.progress.started(probe, subject)
            case Done(run=run):
                self.ended(run)
            case Finding() | Fact() | MemoryEstimate():
                self.output.take(step)

    def ended(self, run: ProbeRun) -> None:
        """The probe under way came to this."""
        self.under_way = None
        self.memory = self.output.memory or self.memory
        self.runs.append(run)
        self.progress.ended(run)

    def interrupted(self, stop: KeyboardInterrupt) -> Interrupted:
        """The partial result; what the probe under way yielded is kept."""
        if self.under_way is not None:
            self.runs.append(Crashed(error=error_of(stop), **self.so_far(0.0)))
        return Interrupted(self.result("interrupted"))

    def so_far(self, seconds: float) -> dict[str, Any]:
        """What a run of the probe under way keeps, however it ended."""
        assert self.under_way is not None
        return kept(self.probe(self.under_way.probe), self.under_way.subject, self.output, seconds)

    @property
    def weight_bytes(self) -> int:
        """Of both models' files, as they are listed."""
        return sum(file.size_bytes or 0 for one in (self.a, self.b) if one is not None for file in one.weights)

    def probe(self, name: str) -> Probe:
        """One of those that are asked, by its name."""
        return next(one for one in (*self._model_probes, *pair_probes(self.request)) if one.name == name)

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
        return ModelBench(
            wire=request.wire,
            train=request.train,
            policy=request.policy,
            seed=request.seed,
            side=side,
            snapshot=snapshot,
            loan=self.lent.get(side),
        )

    def _model_steps(self, bench: ModelBench) -> Iterator[Step]:
        self._add_known(bench.side)
        bench.facts = self._facts()
        if bench.side in self.known:
            return
        for probe in self._model_probes:
            yield from self._one(probe, bench, (bench.side,))
            bench.facts = self._facts()

    def _pair_steps(self, a: ModelBench, b: ModelBench) -> Iterator[Step]:
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
            yield from self._one(probe, bench, ("a", "b", "pair"))

    def _one(self, probe: Probe, bench: ModelBench | PairBench, subjects: tuple[Subject, ...]) -> Iterator[Step]:
        subject = bench.subject
        if any((run.probe, run.subject) == (probe.name, subject) for run in self.runs):
            return
        limit = limit_s(probe, self.request.wire, self.request.policy, self.weight_bytes)
        reason = why_not(probe, self.request.policy.depth, [r for r in self.runs if r.subject in subjects])
        yield Begun(probe=probe.name, subject=subject, limit_s=limit, skipped=bool(reason))
        if reason:
            yield Done(run=Skipped(probe=probe.name, subject=subject, level=probe.level, seconds=0.0, reason=reason))
        else:
            yield from ran(probe, bench)

    def _add_known(self, until: Subject) -> None:
        """The runs that were there already, of the sides up to that one."""
        for side in ("a", "b"):
            if side in self.known and not any(run.subject == side for run in self.runs):
                self.runs += self.known[side]
            if side == until:
                return

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
