"""The records of `wirecheck fit`: what the GPUs hold at most, along the batch and along the context."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator

from wirecheck.schema import CheckedModel, Environment, Record, TrainSpec, WireSpec

WayName = Literal["as-asked", "checkpointing", "in-turns", "in-turns-checkpointing"]
Placement = Literal["one-gpu", "one-model-per-gpu", "split"]


class Largest(Record):
    """The largest value along one axis, rows or text tokens, that a GPU holds."""

    fits: NonNegativeInt
    """Fits at the upper end of the trace's error; 0 where none was found to."""
    may_fit: NonNegativeInt
    """Above this none fits, even at the lower end of the trace's error; 0 where none does."""
    ended: bool = False
    """Whether the axis ended before the memory did: `fits` is the last value there is to ask for."""
    least_bytes: NonNegativeInt | None = None
    most_bytes: NonNegativeInt | None = None
    """What the process is taken to hold at `fits`, on the fullest GPU."""
    method: Literal["surface", "traces", "formula"] = "surface"
    """Found on a surface shown by traces; or each value that was tried was traced itself; or not traced."""


class Way(Record):
    """One set of options the step is tried with."""

    name: WayName
    words: str
    """For people; with what is to be typed or written for it."""


class FrontierGpu(Record):
    """One kind of GPU, as the catalogue has it."""

    name: str
    count: PositiveInt = 1
    usable_bytes: NonNegativeInt
    source: str


class CurvePoint(Record):
    """The largest batch at one more context."""

    context: NonNegativeInt
    """Text tokens of a row, beside latent and answer."""
    batch: Largest | None = None
    """None where it was not found, and `why`."""
    why: str | None = None

    @model_validator(mode="after")
    def _answered_or_why(self) -> CurvePoint:
        if (self.batch is None) is not bool(self.why):
            raise ValueError(f"at {self.context}: an answer or a reason, and not both")
        return self


class FrontierRow(Record):
    """What one GPU, or several, hold of the step in one way."""

    gpu: str
    count: PositiveInt = 1
    way: WayName
    placement: Placement
    batch: Largest | None = None
    """Of rows, at the context asked for; None where it was not found, and `why`."""
    context: Largest | None = None
    """Of text tokens beside latent and answer, at the batch asked for; None where it was not found, and `why`."""
    why: str | None = None
    """Why it was not traced; an answer that stands beside it is by formula."""
    curve: tuple[CurvePoint, ...] = Field(default=(), exclude_if=lambda curve: not curve)
    """The largest batch by context, where that was asked for, and else absent: from the context asked for up to the
    models' last, or to the first where not a row may fit."""

    @model_validator(mode="after")
    def _answered_or_why(self) -> FrontierRow:
        if (self.batch is None or self.context is None) and not self.why:
            raise ValueError(f"{self.gpu} {self.way}: no answer and no reason")
        contexts = [point.context for point in self.curve]
        if contexts != sorted(set(contexts)):
            raise ValueError(f"{self.gpu} {self.way}: the contexts of its curve do not ascend")
        return self


class Frontier(Record):
    """The file format of `wirecheck fit`."""

    schema_version: Literal[1] = 1
    status: Literal["started", "finished", "interrupted"]
    command: str
    seed: int
    a: CheckedModel
    b: CheckedModel
    wire: WireSpec
    train: TrainSpec
    environment: Environment
    gpus: tuple[FrontierGpu, ...]
    ways: tuple[Way, ...]
    rows: tuple[FrontierRow, ...] = ()
    assumptions: tuple[str, ...] = ()
    seconds: FiniteFloat = 0.0
