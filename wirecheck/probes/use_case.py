"""One twin under the checks of its use: what it is fed, and how a figure becomes a line of evidence."""
# ruff: noqa: N815  # shape-suffixed tensor names: B rows, T positions, D width, V vocabulary

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wirecheck.embedding_trial import REFUSALS, Trial
from wirecheck.embedding_use import REORDERED, reordered
from wirecheck.limits import one_line
from wirecheck.probe import ModelBench
from wirecheck.schema import Evidence, Level, Scalar, Severity

if TYPE_CHECKING:
    import torch

Measured = float | Exception
"""A difference, or what the class raised instead."""


@dataclass(frozen=True, eq=False)
class Case:
    """A trial on the twin, what it is fed, and the bench its findings are written on."""

    bench: ModelBench
    trial: Trial
    embeds_BTD: torch.Tensor
    full_BTV: torch.Tensor
    """Logits of the plain forward over the embeds."""

    @property
    def name(self) -> str:
        """The class that runs."""
        return type(self.trial.model).__name__

    @property
    def is_own(self) -> bool:
        """Whether the wire is the user's, of which nothing is known."""
        return self.bench.wire.is_own

    @property
    def trap(self) -> Severity:
        """Of a trap that the wires shipped here avoid and that the user's own may meet."""
        return Severity.WARN if self.is_own else Severity.NOTE

    def holds(self, measured: Measured) -> bool:
        """Whether rounding accounts for a difference of logits; false where it is NaN."""
        return isinstance(measured, float) and measured <= reordered(self.full_BTV)

    def seen(self, what: str, observed: Scalar, expected: Scalar = None) -> Evidence:
        """One observation on the twin."""
        source = f"{what}; twin in float32, seed {self.bench.seed}"
        return Evidence(level=Level.SIMULATED, source=source, observed=observed, expected=expected)

    def difference(self, what: str, measured: Measured, allowed: float | None = None) -> Evidence:
        """A difference of logits beside what rounding may make of it."""
        limit = reordered(self.full_BTV) if allowed is None else allowed
        expected = f"at most {limit:.2g} ({REORDERED} rounding steps of float32 at the largest logit)"
        return self.seen(what, words(measured), expected)


def asked(question: Callable[[], float]) -> Measured:
    """The answer, or what the class raised."""
    try:
        return question()
    except REFUSALS as error:
        return error


def words(measured: Measured) -> str:
    """For evidence: two digits, or the error in one line."""
    if isinstance(measured, Exception):
        return f"raises {type(measured).__name__}: {one_line(measured, 120)}"
    return f"{measured:.2g}"
