"""Where, in the file that a gate reads, the things stand that a CI service points at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wirecheck.gate_troubles import Trouble

Place = tuple[int | str, ...]
"""Names of tables and keys, numbers in lists."""


def _nowhere(_: Place) -> int | None:
    return None


@dataclass(frozen=True)
class Whereabouts:
    """One file as a CI service names it, and what tells its lines."""

    path: str
    """From the root of the repository, with slashes."""
    line: Callable[[Place], int | None] = _nowhere
    """None where the line of a place cannot be told."""

    def of(self, trouble: Trouble) -> int:
        """The line of its model, or of the first of both; 1 where it cannot be told."""
        return self.line(("models", trouble.models[0])) or 1

    def of_acceptance(self, number: int) -> int:
        """The line of that acceptance, counted from 0."""
        return self.line(("gate", "accepted", number)) or 1
