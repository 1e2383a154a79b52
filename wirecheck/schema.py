"""Every record wirecheck writes: pydantic, frozen, unknown fields refused, finite numbers only.

The JSON on disk is the dump of one `PairResult`; views read nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    FiniteFloat,
    ModelWrapValidatorHandler,
    NonNegativeInt,
    PositiveInt,
    computed_field,
    model_validator,
)

from wirecheck.errors import whole_letters
from wirecheck.record import LADDER, Level, Outcome, Record, Scalar, Severity, Subject, same
from wirecheck.specs import Acceptance, Expectation, GpuRequest, LockedSide, Pin, Policy, TrainSpec, WireSpec
from wirecheck.timeline_records import MemoryTimeline, TimelinePart, TimelinePhase

__all__ = [
    "LADDER",
    "SCHEMA_VERSION",
    "Acceptance",
    "CheckedModel",
    "Claim",
    "Crashed",
    "Environment",
    "Evidence",
    "Expectation",
    "Fact",
    "Finding",
    "Fit",
    "GpuRequest",
    "Level",
    "LockedSide",
    "MemoryEstimate",
    "MemoryPart",
    "MemoryTimeline",
    "Outcome",
    "PairResult",
    "Pin",
    "Policy",
    "ProbeError",
    "ProbeRun",
    "Ran",
    "Record",
    "Scalar",
    "Severity",
    "Skipped",
    "Subject",
    "TimelinePart",
    "TimelinePhase",
    "TrainSpec",
    "Verdict",
    "WireSpec",
    "same",
    "strongest",
]

SCHEMA_VERSION: Literal[1] = 1


class _Quoting(Record):
    """A record whose texts may be a stranger's: half of a surrogate pair, which JSON spells and no text holds, is spelt
    out in it."""

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: whole_letters(value) if isinstance(value, str) else value for name, value in given.items()}


class Evidence(_Quoting):
    """One observation: where a reader can go to see the same thing."""

    level: Level
    source: str = Field(min_length=1)
    """`file@commit#key`, a tensor name, or a command and its seed."""
    observed: Scalar
    expected: Scalar = None


class Finding(Record):
    """One sentence that can be false, with what was seen to establish it."""

    code: str
    name: str
    severity: Severity
    subject: Subject
    claim: str = Field(min_length=1)
    evidence: tuple[Evidence, ...] = Field(min_length=1)
    remedy: str | None = None

    @model_validator(mode="after")
    def _remedy_where_needed(self) -> Finding:
        if self.severity in (Severity.WARN, Severity.BLOCK) and not self.remedy:
            raise ValueError(f"{self.code}: a {self.severity} needs a remedy")
        if self.severity is Severity.BLOCK and self.level is Level.DECLARED:
            raise ValueError(
                f"{self.code}: a block rests on inspected evidence or better, not on what a config declares"
            )
        return self

    @property
    def level(self) -> Level:
        """The strongest rung this claim stands on."""
        return max((e.level for e in self.evidence), key=lambda level: level.rank)


class Fact(_Quoting):
    """One figure of a model or a pair, with the rung and the source it was read from."""

    key: str
    """A stable name such as `hidden_size`; views look facts up by it."""
    subject: Subject
    value: Scalar
    level: Level
    source: str = Field(min_length=1)

    def evidence(self, expected: Scalar = None) -> Evidence:
        """Evidence that this value stands where it was read: what a config declares was read from its bytes."""
        level = max(self.level, Level.INSPECTED, key=lambda rung: rung.rank)
        return Evidence(level=level, source=self.source, observed=self.value, expected=expected)


def strongest(facts: Iterable[Fact], subject: Subject, key: str) -> Fact | None:
    """The fact of that subject and name on the highest rung, the first among equals; None where there is none."""
    named = (fact for fact in facts if fact.subject == subject and fact.key == key)
    return max(named, key=lambda fact: fact.level.rank, default=None)


class ProbeError(_Quoting):
    """What ended a crashed probe."""

    type: str
    message: str
    traceback: str


class _Run(Record):
    probe: str
    subject: Subject
    level: Level
    """The rung the probe was to reach."""
    seconds: FiniteFloat = Field(ge=0)
    findings: tuple[Finding, ...] = ()
    facts: tuple[Fact, ...] = ()


class Ran(_Run):
    """The probe ran to its end."""

    kind: Literal["ran"] = "ran"

    def gap(self, level: Level) -> str | None:
        """Why this run leaves its question open on `level`; None when it settles it.

        Within a claim the strongest evidence counts, across claims the weakest; a run without a claim settles nothing.
        """
        if not self.findings:
            return "ran, but claimed nothing"
        weak = sorted(f"{f.code} rests on {f.level}" for f in self.findings if f.level.rank < level.rank)
        return f"{weak[0]} evidence only" if weak else None


class Skipped(_Run):
    """The probe was not run, or stopped because a condition was missing; findings made before are kept."""

    kind: Literal["skipped"] = "skipped"
    reason: str = Field(min_length=1)

    def gap(self, level: Level) -> str:  # noqa: ARG002 - open on every rung
        """Always open, for the reason it was skipped."""
        return f"skipped: {self.reason}"


class Crashed(_Run):
    """The probe raised; findings made before are kept."""

    kind: Literal["crashed"] = "crashed"
    error: ProbeError

    def gap(self, level: Level) -> str:  # noqa: ARG002 - open on every rung
        """Always open, with the error that ended it."""
        return f"crashed: {self.error.type}: {self.error.message}"


ProbeRun = Annotated[Ran | Skipped | Crashed, Field(discriminator="kind")]


class CheckedModel(Record):
    """Which bytes were checked."""

    ref: str
    """What the user typed."""
    name: str
    """The repository id, or the last part of the folder or file name."""
    kind: Literal["hub", "folder", "gguf"]
    commit: str
    """Commit on the hub; for a folder or file, a digest of what was read."""
    revision: str | None = None
    """The revision asked for, when one was."""


class Claim(Record):
    """What somebody said of these models before: shown beside what was found, and no part of the verdict."""

    subject: Subject
    key: str = Field(min_length=1)
    """The name of a fact; or `memory_bytes`, what a step allocates at its peak; or `verdict`, the outcome."""
    value: Scalar
    source: str = Field(min_length=1)
    """Who said so: a file, and what it is."""


class Environment(Record):
    """The versions this result was made with."""

    python: str
    platform: str
    packages: tuple[tuple[str, str], ...]
    """(distribution, version), sorted by name; only those installed."""


class MemoryPart(Record):
    """One share of the peak."""

    name: str
    bytes: NonNegativeInt
    how: str
    """The formula or trace it comes from."""


class Fit(Record):
    """Whether the step fits on one GPU."""

    gpu: str
    count: PositiveInt
    outcome: Literal["fits", "uncertain", "does-not-fit"]
    free_bytes: int
    """Usable bytes less the estimate; negative when it does not fit."""
    usable_bytes: PositiveInt | None = None
    """What a process can have of one such GPU; None in results made before this was kept."""


class MemoryEstimate(Record):
    """Peak memory of one step, by parts. Totals are derived from the parts."""

    level: Level
    method: str
    """`formula` or `trace`: how the parts were found."""
    parts: tuple[MemoryPart, ...]
    assumptions: tuple[str, ...]
    margin: FiniteFloat = Field(ge=0)
    """Stated relative uncertainty of the allocated total."""
    reserved_bytes: int | None = None
    """What the caching allocator would hold; None where not estimated."""
    process_bytes: int | None = None
    """What the driver would show; None where not estimated."""
    fits: tuple[Fit, ...] = ()
    timeline: MemoryTimeline | None = None
    """Live bytes over the step; None where it was not traced."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def allocated_bytes(self) -> int:
        """Sum of the parts."""
        return sum(part.bytes for part in self.parts)

    @model_validator(mode="after")
    def _timeline_is_of_this_peak(self) -> MemoryEstimate:
        if self.timeline is not None and max(self.timeline.totals) > self.allocated_bytes:
            raise ValueError("the timeline holds more than the peak that the parts make")
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _total_is_the_sum(cls, data: Any, made: ModelWrapValidatorHandler[MemoryEstimate]) -> MemoryEstimate:
        """A file carries the total for its readers; it is checked against the parts and dropped."""
        if not isinstance(data, dict) or "allocated_bytes" not in data:
            return made(data)
        estimate = made({name: value for name, value in data.items() if name != "allocated_bytes"})
        total = data["allocated_bytes"]
        if total != estimate.allocated_bytes:
            raise ValueError(f"allocated_bytes is {total!r}, its parts make {estimate.allocated_bytes}")
        return estimate


class Verdict(Record):
    """The answer: never stronger than what was done to establish it."""

    outcome: Outcome
    strength: Level | None
    """The highest rung with no gap at or below it; None when nothing is settled."""
    because: tuple[str, ...]
    """Blockers, or gaps; for compatible, what it rests on."""


class PairResult(Record):
    """One check from request to verdict: the file format. `b` is None for a single model."""

    schema_version: Literal[1] = SCHEMA_VERSION
    status: Literal["started", "finished", "interrupted"]
    command: str
    """The command line that makes this result again."""
    seed: int
    a: CheckedModel
    b: CheckedModel | None
    wire: WireSpec
    train: TrainSpec
    policy: Policy
    environment: Environment
    runs: tuple[ProbeRun, ...]
    memory: MemoryEstimate | None
    verdict: Verdict
    claims: tuple[Claim, ...] = ()
    """What an earlier report said, where one was given."""

    @model_validator(mode="after")
    def _unfinished_certifies_nothing(self) -> PairResult:
        if self.status != "finished" and self.verdict.outcome is Outcome.COMPATIBLE:
            raise ValueError(f"a check that was {self.status} and not finished cannot say compatible")
        return self

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding, in the order of the runs."""
        return tuple(finding for run in self.runs for finding in run.findings)

    def fact(self, subject: Subject, key: str) -> Fact | None:
        """The strongest fact of that name, the first among equals; None when no probe established it."""
        return strongest((fact for run in self.runs for fact in run.facts), subject, key)
