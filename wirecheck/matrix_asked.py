"""What one matrix was asked, as a record: a run on a cluster is gone on with by it, whoever began it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import FiniteFloat, NonNegativeInt, PositiveInt

from wirecheck.schema import Policy, Record, TrainSpec, WireSpec


class Output(Record):
    """Where to, as paths seen from the folder the command was given in."""

    json_file: str | None = None
    """`-` is stdout."""
    report: tuple[str, ...] = ()
    reports: str | None = None
    """Folder of the reports of pairs."""
    top: PositiveInt | None = None


class Asked(Record):
    """Models, question and limits."""

    version: Literal[1] = 1
    folder: str
    """Where the command was given."""
    models: dict[str, str]
    """Name -> id, folder or file."""
    against: str | None
    offline: bool
    fresh: bool
    wire: WireSpec
    train: TrainSpec
    policy: Policy
    seed: NonNegativeInt
    command: str
    jobs: PositiveInt | None
    model_seconds: FiniteFloat
    pair_seconds: FiniteFloat
    memory_bytes: PositiveInt
    slurm: dict[str, Any] | None = None
    """Fields of SlurmOptions; None: local processes."""
    output: Output

    @property
    def paths(self) -> list[Path]:
        """The reports asked for."""
        return [Path(text) for text in self.output.report]
