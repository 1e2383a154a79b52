"""What a check is asked: the wire, the step, and what must hold before it says compatible."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, field_validator, model_validator

from wirecheck.record import Level, Record, Scalar


class WireSpec(Record):
    """The wire to be trained: encoder, latent and adapters."""

    name: str = "bytes"
    """Name of a wire shipped with wirecheck, or `package.module:factory` of the user's own."""
    latent_length: PositiveInt = 32
    """M: number of latent slots, hence of soft tokens given to each model (private slots come on top)."""
    latent_width: PositiveInt = 256
    """Z: width of one latent slot; the bytes encoder's 8 heads must divide it."""
    max_bytes: PositiveInt = 512
    """Source bytes the encoder reads; longer sources are cut."""
    private_length: NonNegativeInt = 0
    """Slots that only one model reads, behind the shared ones."""
    metadata: bool = True
    """Whether adapters are told the slot's number and the source's length."""
    colour: bool = True
    """Whether each dimension of the prefix is given the mean and deviation of the model's embedding table."""
    hidden_multiple: PositiveInt = 2
    """Width of the adapter's hidden layers, in latent widths."""
    losses: tuple[Literal["answer", "first-k", "kd"], ...] = Field(default=("answer",), min_length=1)
    """What is summed: cross-entropy on the answer, on its first K tokens (K forwards), distance from a text teacher."""
    first_k: PositiveInt = 4
    """K of `first-k` and `kd`."""
    sentence_encoder: str | None = None
    """Folder of a frozen sentence encoder, which the wire *sentence-query* reads the source with."""
    source_layer: NonNegativeInt | None = None
    """Layer whose output the *resampler* reads; None is two thirds of the depth."""
    resampler_depth: PositiveInt = 2
    """Blocks of the resampler."""
    direction: Literal["both", "a-to-b", "b-to-a"] = "both"
    """Whose hidden states the resampler turns into whose soft tokens."""
    options: tuple[tuple[str, Scalar], ...] = ()
    """What the user's own factory is given, by name."""

    @field_validator("options", mode="before")
    @classmethod
    def _from_table(cls, value: Any) -> Any:
        return tuple(value.items()) if isinstance(value, dict) else value

    @property
    def is_own(self) -> bool:
        """Whether it is the user's wire and none that wirecheck ships."""
        return ":" in self.name

    @property
    def prefix_length(self) -> int:
        """Soft tokens one model is given."""
        return self.latent_length + self.private_length


class TrainSpec(Record):
    """One training step as the user will run it."""

    batch: PositiveInt = 8
    """Rows of one step."""
    context: NonNegativeInt = 64
    """Text tokens beside the latent: anchor and prompt."""
    answer: PositiveInt = 64
    """Answer tokens the loss is taken on."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """The frozen models' dtype; encoder and adapters are float32."""
    quantize: Literal["none", "nf4", "nf4-dq", "int8"] = "none"
    """How the frozen models' linear layers are quantized on load, as bitsandbytes does: 4-bit, 4-bit with double
    quantization, 8-bit. It enters the trace of memory; nothing is run so."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """What updates the wire: its states count in memory."""
    learning_rate: FiniteFloat = Field(default=1e-4, gt=0)
    """Of the updates by which a wire is seen to learn."""
    grad_checkpointing: bool = False
    """Whether the models recompute in backward."""
    resident: Literal["joint", "sequential"] = "joint"
    """Whether both frozen models are in memory together."""

    def sequence_length(self, wire: WireSpec) -> int:
        """Positions one row takes: latent + context + answer."""
        return wire.prefix_length + self.context + self.answer


class GpuRequest(Record):
    """A GPU the step must fit on, `name` as in the catalogue, `count` of them."""

    name: str
    """As in the catalogue, such as `H100-80GB`."""
    count: PositiveInt = 1
    """How many of them the step may be spread over."""


class Expectation(Record):
    """A fact the user wrote down: checked, never believed."""

    subject: Literal["a", "b"]
    """Of which model."""
    key: str
    """The fact's name, such as `vocab_size`."""
    value: Scalar
    """What it must be."""


class Pin(Record):
    """The digest a file must have."""

    subject: Literal["a", "b"]
    """Of which model."""
    file: str
    """Its name in the repository or folder."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """The digest of its bytes."""
    git_sha1: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    """git's name for the bytes, where no sha256 is known."""

    @model_validator(mode="after")
    def _digest(self) -> Pin:
        if self.sha256 is None and self.git_sha1 is None:
            raise ValueError(f"{self.file}: a pin needs sha256 or git_sha1")
        return self


class LockedSide(Record):
    """What a lock says one model is: nothing else may stand in its place."""

    subject: Literal["a", "b"]
    """Which model."""
    commit: str
    """Its commit on the hub, or the digest of all that was read of a folder."""
    files: tuple[str, ...]
    """Names of the files that may be there: those that are read of it, and those that lay beside them."""


class Acceptance(Record):
    """A finding the user takes upon themselves, until a day: it no longer decides the verdict."""

    code: str
    """The finding's code."""
    subject: Literal["a", "b", "pair"]
    """Whom the finding speaks of."""
    reason: str = Field(min_length=1)
    """Why it is taken."""
    until: date
    """The last day it holds."""


_RUNGS = ("required", "depth")


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
    """Facts that must be so; else CFG11, a block."""
    pins: tuple[Pin, ...] = ()
    """Digests that files must have."""
    fixed_revisions: bool = False
    """A model that is named by a branch or a tag, which can move, is warned of."""
    locked: tuple[LockedSide, ...] = ()
    """What a lock says the models are; a gate fills it in."""
    prove_offline: bool = False
    """Everything is loaded once more in a process whose sockets are refused; it takes `executed`."""
    versions: tuple[tuple[str, str], ...] = ()
    """Package (or `python`) and the version it was locked with."""
    accepted: tuple[Acceptance, ...] = ()
    """Findings that do not decide the verdict; none that has expired."""
    trust_remote_code: bool = False
    """Whether code of the repository may be executed."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where real weights run; auto is an accelerator where there is one."""
    wire_seconds: PositiveInt = 600
    """How long one probe of the user's own wire may take."""
    probe_seconds: PositiveInt = 3600
    """How long any other probe may take, by the clock; one that reads files alone is also held to processor time."""
    source_bytes: PositiveInt | None = None
    """The longest source the user has: a wire that does not read so far is warned of."""

    @property
    def also_offline(self) -> Policy:
        """The policy, asking for that proof, too: real weights have to run, else it is no proof and nothing holds."""
        rungs = {name: max(getattr(self, name), Level.EXECUTED, key=lambda one: one.rank) for name in _RUNGS}
        return self.model_copy(update={"prove_offline": True, **rungs})
