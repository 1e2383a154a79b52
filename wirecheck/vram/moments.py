"""At which moments one step of the wire can peak, and what is in memory then: the schedule alone, without any size.

One table of moments serves two readers: the estimate, whose terms are parts with names, and whoever needs the peak of
very many pairs, whose terms are plain numbers of bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Terms(Generic[T]):
    """What one model adds, in whatever unit a reader counts."""

    weights: tuple[T, ...]
    graph: tuple[T, ...]
    """What every forward that waits for the backward keeps."""
    rest: tuple[T, ...]
    """Losses that are not yet differentiated, all but one."""
    logits: tuple[T, ...]
    """The logits of one loss, in the run's dtype."""
    waiting: tuple[T, ...]
    """One loss that waits: its logits, and one float32 copy."""
    backward: tuple[T, ...]
    """One loss while it is differentiated: its logits, and three float32 copies."""
    done: tuple[T, ...]
    """The logits of every forward, kept by the caller when their losses are done."""
    again: tuple[T, ...]
    """A checkpointed layer that is computed again."""

    def summed(self, size: Callable[[T], U], total: Callable[[list[U]], U]) -> Terms[U]:
        """The same, one number for each."""
        terms = (getattr(self, field.name) for field in fields(self))
        return Terms(*((total([size(one) for one in term]),) for term in terms))


def alone(one: Terms[T]) -> list[tuple[T, ...]]:
    """One model: while a loss is differentiated, and while a checkpointed layer is computed again."""
    base = (*one.weights, *one.graph, *one.rest)
    return [(*base, *one.backward), (*base, *one.logits, *one.again)]


def joint(a: Terms[T], b: Terms[T]) -> list[tuple[T, ...]]:
    """Both models, A's forwards first: B's losses and backward run while A's graphs wait, then A's."""
    weights = (*a.weights, *b.weights)
    of_b = (*weights, *a.graph, *b.graph, *a.rest, *b.rest, *a.waiting)
    of_a = (*weights, *a.graph, *a.rest)
    return [
        (*of_b, *b.backward),
        (*of_b, *b.logits, *b.again),
        (*of_a, *a.backward, *b.done),
        (*of_a, *a.logits, *b.done, *a.again),
    ]
