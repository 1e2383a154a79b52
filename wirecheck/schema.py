"""Every record wirecheck writes: pydantic, frozen, unknown fields refused, finite numbers only.

The JSON on disk is the dump of one `PairResult`; views read nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    computed_field,
    model_validator,
)

SCHEMA_VERSION: Literal[1] = 1


class Level(StrEnum):
    """A rung of the evidence ladder, weakest first. Compare by `rank`."""

    DECLARED = "declared"
    """A config file says so."""
    INSPECTED = "inspected"
    """Read from the bytes: safetensors header, tokenizer, template rendered."""
    SIMULATED = "simulated"
    """The real class ran: a tiny random twin, or the full shape without data."""
    EXECUTED = "executed"
    """The real weights ran."""
    MEASURED = "measured"
    """The quantity was read off the target device."""

    @property
    def rank(self) -> int:
        """Position on the ladder, 0 for `declared`."""
        return LADDER.index(self)


LADDER: tuple[Level, ...] = tuple(Level)


class Severity(StrEnum):
    """How a finding bears on this wire in this run."""

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    BLOCK = "block"


class Outcome(StrEnum):
    """The three things a verdict can say."""

    COMPATIBLE = "compatible"
    UNPROVEN = "unproven"
    INCOMPATIBLE = "incompatible"


Subject = Literal["a", "b", "pair"]
Scalar = bool | int | FiniteFloat | str | None


class Record(BaseModel):
    """The base of every record: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True)


class Evidence(Record):
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


class Fact(Record):
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


class ProbeError(Record):
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


class WireSpec(Record):
    """The wire to be trained: encoder, latent and adapters."""

    name: str = "bytes"
    """Name of a wire shipped with wirecheck."""
    latent_length: PositiveInt = 32
    """M: number of latent slots, hence of soft tokens given to each model."""
    latent_width: PositiveInt = 256
    """Z: width of one latent slot; the bytes encoder's 8 heads must divide it."""
    max_bytes: PositiveInt = 512
    """Source bytes the encoder reads; longer sources are cut."""


class TrainSpec(Record):
    """One training step as the user will run it."""

    batch: PositiveInt = 8
    context: NonNegativeInt = 64
    """Text tokens beside the latent: anchor and prompt."""
    answer: PositiveInt = 64
    """Answer tokens the loss is taken on."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """The frozen models' dtype; encoder and adapters are float32."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: FiniteFloat = Field(default=1e-4, gt=0)
    grad_checkpointing: bool = False
    resident: Literal["joint", "sequential"] = "joint"
    """Whether both frozen models are in memory together."""

    def sequence_length(self, wire: WireSpec) -> int:
        """Positions one row takes: latent + context + answer."""
        return wire.latent_length + self.context + self.answer


class GpuRequest(Record):
    """A GPU the step must fit on, `name` as in the catalogue, `count` of them."""

    name: str
    count: PositiveInt = 1


class Expectation(Record):
    """A fact the user wrote down: checked, never believed."""

    subject: Literal["a", "b"]
    key: str
    value: Scalar


class Pin(Record):
    """The digest a file must have."""

    subject: Literal["a", "b"]
    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Policy(Record):
    """What this run asks for before it says compatible."""

    required: Level = Level.SIMULATED
    """The rung the verdict must stand on."""
    depth: Level = Level.EXECUTED
    """How far probes go; probes above it are skipped."""
    strict: bool = False
    """A warning counts as a block."""
    gpus: tuple[GpuRequest, ...] = ()
    """GPUs the step must fit on, each of them."""
    expectations: tuple[Expectation, ...] = ()
    pins: tuple[Pin, ...] = ()
    """Digests the weight files must have."""
    trust_remote_code: bool = False
    """Whether code of the repository may be executed."""


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

    @computed_field  # type: ignore[prop-decorator]
    @property
    def allocated_bytes(self) -> int:
        """Sum of the parts."""
        return sum(part.bytes for part in self.parts)

    @model_validator(mode="before")
    @classmethod
    def _total_is_the_sum(cls, data: Any) -> Any:
        """A file carries the total for its readers; it is checked against the parts and dropped."""
        if isinstance(data, dict) and "allocated_bytes" in data:
            data = dict(data)
            total = data.pop("allocated_bytes")
            parts = sum(p["bytes"] if isinstance(p, dict) else p.bytes for p in data["parts"])
            if total != parts:
                raise ValueError(f"allocated_bytes is {total}, its parts make {parts}")
        return data


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
