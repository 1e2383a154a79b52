"""The records of `wirecheck matrix`: many models, and what is said of every pair of them."""

from __future__ import annotations

from typing import Literal

from pydantic import FiniteFloat, NonNegativeInt

from wirecheck.gate_records import GateOutcome
from wirecheck.schema import Environment, Level, Policy, Record, Subject, TrainSpec, WireSpec


class MatrixModel(Record):
    """One model: what it stands for, and the few figures that a table shows."""

    name: str
    """Unique among the models: the last part of its id, told apart by a number where two are alike."""
    ref: str
    commit: str | None = None
    model_type: str | None = None
    hidden_size: NonNegativeInt | None = None
    vocab_size: NonNegativeInt | None = None
    num_parameters: NonNegativeInt | None = None
    why: str | None = None
    """Why it could not be read; every pair of it is then could-not-check."""
    next_step: str | None = None


class MatrixCause(Record):
    """One finding that keeps a pair from being compatible."""

    code: str
    subject: Subject
    claim: str


class MatrixCell(Record):
    """What is said of one pair."""

    a: str
    b: str
    outcome: GateOutcome
    strength: Level | None = None
    """The rung the verdict stands on."""
    causes: tuple[MatrixCause, ...] = ()
    """Blocks, or under a strict policy also warnings."""
    why: tuple[str, ...] = ()
    """As the verdict says it; of a pair that was not judged, why."""
    warnings: NonNegativeInt = 0
    memory: NonNegativeInt | None = None
    """Bytes allocated at the peak of one step, both models in memory as the step asks; None where it was not traced."""
    memory_method: str | None = None
    """`trace`, or `formula` where nothing was to be run."""
    token_length_ratio: FiniteFloat | None = None
    """Tokens that A needs for the same texts, per token of B."""
    vocabulary_shared: NonNegativeInt | None = None
    """Tokens that are in both vocabularies."""
    seconds: FiniteFloat = 0.0
    kept: bool = False
    """Whether nothing was run: an earlier check of the same bytes asked the same."""


class Matrix(Record):
    """The file format of `wirecheck matrix`."""

    schema_version: Literal[1] = 1
    status: Literal["finished", "interrupted"]
    command: str
    seed: NonNegativeInt
    wire: WireSpec
    train: TrainSpec
    policy: Policy
    environment: Environment
    models: tuple[MatrixModel, ...]
    cells: tuple[MatrixCell, ...]
    """In the order of the models."""
    seconds: FiniteFloat

    def cell(self, a: str, b: str) -> MatrixCell | None:
        """What is said of two models, whichever of them is named first."""
        return next((one for one in self.cells if {one.a, one.b} == {a, b}), None)
