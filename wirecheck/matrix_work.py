"""What is run of a matrix in a process of its own: the probes of one model, or of a tile of pairs. Texts in, texts out.

Both kinds of work can be pickled, so that another machine can do them.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pydantic import TypeAdapter

from wirecheck import zoo_warm
from wirecheck.gate_records import OUTCOMES
from wirecheck.gate_shelf import RUNS, is_final, of_side
from wirecheck.loan import Loan
from wirecheck.matrix_records import MatrixCause, MatrixCell
from wirecheck.runner import Check, Request, Silent
from wirecheck.schema import MemoryEstimate, PairResult, ProbeRun, Record, Severity, Subject
from wirecheck.sketch import Sketch, sketch, texts_of
from wirecheck.snapshot import JsonUnreadable, Snapshot
from wirecheck.verdict import refused
from wirecheck.vocabulary import fingerprints

Pair = tuple[str, str]


class ProbedModel(Record):
    """What one model's probes came to, as it stands on side a."""

    runs: tuple[ProbeRun, ...]
    sketch: Sketch
    vocabulary: str | None
    """Fingerprints of its tokens: ascending little-endian uint64, in base 64."""

    @property
    def is_final(self) -> bool:
        """Whether the same probes would end the same."""
        return bool(self.runs) and all(map(is_final, self.runs))


class PairRuns(Record):
    """What only both models together came to."""

    runs: tuple[ProbeRun, ...]
    memory: MemoryEstimate | None


class JudgedPair(Record):
    """One pair that was run."""

    cell: MatrixCell
    own: PairRuns

    @property
    def is_final(self) -> bool:
        """Whether the pair's own probes would end the same; those of its models are another question."""
        return all(map(is_final, self.own.runs))


JUDGED: TypeAdapter[tuple[JudgedPair, ...]] = TypeAdapter(tuple[JudgedPair, ...])


class Work(Protocol):
    """Work by key."""

    @property
    def runs_code_of_the_user(self) -> bool:
        """Whether it runs a wire of the user's own or the repositories' code, which the fence around files would stop."""

    def prepare(self) -> None:
        """Called once in the process whose children do the work: imports what they need."""

    def __call__(self, key: str) -> str:
        """Do one piece."""


@dataclass(frozen=True)
class ModelWork:
    """Every probe of one model, by its key."""

    request: Request
    snapshots: Mapping[str, Snapshot]

    @property
    def runs_code_of_the_user(self) -> bool:
        """As Work says it: no wire is run here."""
        return self.request.policy.trust_remote_code

    def prepare(self) -> None:
        """Import what the probes need."""
        zoo_warm.warm_up(_types(self.snapshots.values()))

    def __call__(self, key: str) -> str:
        """A ProbedModel, as JSON."""
        snapshot = self.snapshots[key]
        check = Check(self.request, snapshot, snapshot, Silent())
        bench = check.model()
        runs = tuple(check.runs)
        texts = texts_of(bench, runs)
        marks = None if texts is None else fingerprints(texts).tobytes()
        digest = None if marks is None else hashlib.sha256(marks).hexdigest()[:40]
        sides: dict[Subject, Sequence[ProbeRun]] = {"a": runs, "b": of_side(runs, "b")}
        return ProbedModel(
            runs=runs,
            sketch=sketch(check, bench, sides, digest),
            vocabulary=None if marks is None else base64.b64encode(marks).decode("ascii"),
        ).model_dump_json()


@dataclass(frozen=True)
class PairWork:
    """The probes of tiles of pairs, by the tile's key."""

    request: Request
    snapshots: Mapping[str, Snapshot]
    """Model's name -> its files."""
    runs: Mapping[str, str]
    """Model's name -> what its own probes came to."""
    tiles: Mapping[str, Sequence[Pair]]

    @property
    def runs_code_of_the_user(self) -> bool:
        """As Work says it."""
        return self.request.wire.is_own or self.request.policy.trust_remote_code

    def prepare(self) -> None:
        """Import what the probes need."""
        zoo_warm.warm_up(_types(self.snapshots.values()))

    def __call__(self, key: str) -> str:
        """The tile's pairs as JudgedPairs, as JSON. What is made of one model alone is shared in its tile."""
        names = dict.fromkeys(name for pair in self.tiles[key] for name in pair)
        runs = {name: RUNS.validate_json(self.runs[name]) for name in names}
        lent = {name: Loan() for name in names}
        return JUDGED.dump_json(tuple(self._judged(pair, runs, lent) for pair in self.tiles[key])).decode()

    def result(self, pair: Pair, own: PairRuns) -> PairResult:
        """The whole result of a pair whose own runs are known."""
        check = self._check(pair, {name: RUNS.validate_json(self.runs[name]) for name in pair}, {})
        check.runs = [*check.known["a"], *check.known["b"], *own.runs]
        check.memory = own.memory
        return check.result("finished")

    def _judged(self, pair: Pair, runs: Mapping[str, tuple[ProbeRun, ...]], lent: Mapping[str, Loan]) -> JudgedPair:
        begin = time.perf_counter()
        result = self._check(pair, runs, lent).run()
        own = PairRuns(runs=tuple(run for run in result.runs if run.subject == "pair"), memory=result.memory)
        return JudgedPair(cell=cell_of(pair, result, time.perf_counter() - begin), own=own)

    def _check(self, pair: Pair, runs: Mapping[str, tuple[ProbeRun, ...]], lent: Mapping[str, Loan]) -> Check:
        a, b = pair
        sides: dict[Subject, str] = {"a": a, "b": b}
        return Check(
            self.request,
            self.snapshots[a],
            self.snapshots[b],
            Silent(),
            known={"a": runs[a], "b": of_side(runs[b], "b")},
            lent={side: lent[name] for side, name in sides.items() if name in lent},
        )


def _types(snapshots: Iterable[Snapshot]) -> Iterator[str]:
    """What the configs call their model types; a probe says it of those that cannot be read."""
    for snapshot in snapshots:
        with suppress(JsonUnreadable):
            kind = snapshot.read_json("config.json").get("model_type")
            if isinstance(kind, str):
                yield kind


def cell_of(pair: Pair, result: PairResult, seconds: float) -> MatrixCell:
    """What a table tells of one result."""
    findings = [one for one in result.findings if one.severity in refused(result.policy)]
    facts = {fact.key: fact.value for run in result.runs for fact in run.facts if fact.subject == "pair"}
    told = {key: facts[key] for key in ("token_length_ratio", "vocabulary_shared") if facts.get(key) is not None}
    return MatrixCell(
        a=pair[0],
        b=pair[1],
        outcome=OUTCOMES[result.verdict.outcome],
        strength=result.verdict.strength,
        causes=tuple(
            MatrixCause(code=code, subject=subject, claim=claim)
            for code, subject, claim in sorted({(one.code, one.subject, one.claim) for one in findings})
        ),
        why=result.verdict.because,
        warnings=sum(one.severity is Severity.WARN for one in result.findings),
        memory=None if result.memory is None else result.memory.allocated_bytes,
        memory_method=None if result.memory is None else result.memory.method,
        seconds=round(seconds, 3),
        **told,
    )
