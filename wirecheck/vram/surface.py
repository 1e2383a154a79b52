"""How the memory of a step grows along one axis, rows or positions: shown on traces, then evaluated anywhere.

Every block of a step has a size that is a polynomial of the batch (degree one) and of the positions (degree two, the
scores of attention). Traces of a thin model at a few points give each block's; the whole model's trace at the first
point says which blocks there are, and when. Nothing is assumed: blocks are matched one by one, a further point is
traced and has to come out to the byte, and `NotShown` is raised where any of it fails.

Lattice: kernels round positions up (to 8, 32, 128), so that along steps of 128 positions their blocks are polynomials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirecheck.errors import CannotRun
from wirecheck.vram.live import Block, Ledger
from wirecheck.vram.search import POSITION_STEP

Floats = NDArray[np.float64]
Differences = tuple[int, ...]
UNIT = 512
"""Bytes that CUDA's allocator rounds each block up to."""


FEWEST_ROWS = 3
"""Of the batches that a surface speaks of."""


class NotShown(CannotRun):
    """The blocks of a step were not shown to grow as a polynomial, and why."""


@dataclass(frozen=True)
class Axis:
    """Where the step is traced along one axis: at `first + step k` for k = 0 .. degree, and at `checks`."""

    first: int
    step: int
    degree: int
    checks: tuple[int, ...]
    """In steps; a negative one is below the first point."""

    @property
    def points(self) -> tuple[int, ...]:
        """Values on the axis at which a trace is needed, the first one first."""
        return tuple(self.first + self.step * k for k in (*range(self.degree + 1), *self.checks))

    @property
    def least(self) -> int:
        """The smallest value that was traced."""
        return min(self.points)


def batch_axis(batch: int) -> Axis:
    """Rows, from three on: a lone row is not padded and takes other kernels."""
    first = max(batch, FEWEST_ROWS)
    return Axis(first, 1, 1, (8, FEWEST_ROWS - first) if first > FEWEST_ROWS else (8,))


def context_axis(context: int) -> Axis:
    """Text tokens of a row beside latent and answer, along the lattice that begins at `context`."""
    return Axis(context, POSITION_STEP, 2, (5,))


@dataclass(frozen=True)
class Surface:
    """A step's blocks along an axis, and its events."""

    axis: Axis
    differences: Floats
    """(degree + 1, events): forward differences of the bytes of each event's block at the first point."""
    signs: Floats
    """(events,): 1 where a block is born, -1 where it dies."""
    blocks: tuple[int, ...]
    """(events,): which block."""

    def sizes(self, value: int) -> Floats:
        """(events,) Bytes of each event's block, rounded, at that point of the axis."""
        return np.ceil(evaluated(self.differences, self.axis, value) / UNIT) * UNIT

    def peak_bytes(self, value: int) -> int:
        """The most bytes alive at a time."""
        return int(np.cumsum(self.sizes(value) * self.signs).max(initial=0.0))

    def events(self, value: int) -> list[tuple[int, int]]:
        """What the allocator is asked for, in order: (block, bytes), zero bytes where it dies."""
        sizes = self.sizes(value)
        there = sizes > 0
        asked = np.where(self.signs > 0, sizes, 0.0)[there].astype(np.int64).tolist()
        return list(zip(np.array(self.blocks)[there].tolist(), asked, strict=True))


def surface(whole: Ledger, thin: Sequence[Ledger], axis: Axis) -> Surface:
    """The whole model's trace at the first point, thin models' at all of `axis.points`. Raises NotShown."""
    table = grown(whole, thin, lambda row: _growth(row, axis))
    return Surface(axis, table, *of_events(whole))


def grown(whole: Ledger, thin: Sequence[Ledger], growth: Callable[[list[Block]], Differences]) -> Floats:
    """(figures, events): what `growth` makes of each event's block, as the thin traces have it. Raises NotShown.

    `thin`: traces that differ in size alone, `whole` of the size of the first. `growth` is given one block of each.
    """
    first = thin[0]
    for ledger in thin[1:]:
        same_blocks = [block.op for block in ledger.blocks] == [block.op for block in first.blocks]
        same_events = [(e.block, e.bytes > 0) for e in ledger.events] == [(e.block, e.bytes > 0) for e in first.events]
        if not (same_blocks and same_events):
            raise NotShown("the step does other things at another size")
    growths = [growth([ledger.blocks[n] for ledger in thin]) for n in range(len(first.blocks))]
    seen = [block for block in whole.blocks if block.number not in whole.repeats]
    known = dict(zip((block.number for block in seen), _matched(first.blocks, growths, seen), strict=True))
    rows = [known[whole.repeats.get(block.number, block.number)] for block in whole.blocks]
    table: Floats = np.array(rows, dtype=np.float64).T
    return table[:, [event.block for event in whole.events]]


def of_events(whole: Ledger) -> tuple[Floats, tuple[int, ...]]:
    """(events,): 1 where a block is born, -1 where it dies; and which block."""
    signs = np.array([1.0 if event.bytes else -1.0 for event in whole.events])
    return signs, tuple(event.block for event in whole.events)


def _growth(row: list[Block], axis: Axis) -> Differences:
    """Forward differences of one block's bytes along the axis, which hold at its further points too. NotShown."""
    asked = [block.asked for block in row]
    made, seen = forward(asked[: axis.degree + 1]), asked[axis.degree + 1 :]
    if [newton(made, k) for k in axis.checks] != seen:
        raise NotShown(f"{row[0].op}: its bytes are no polynomial: {asked}")
    return made


def _matched(few: list[Block], growths: list[Differences], many: list[Block]) -> list[Differences]:
    """For each block of the whole model the growth of its like in the thin one.

    Blocks are alike in operation, part and bytes; where two of those grow in different ways, in those of the blocks
    before (and after) them too. NotShown where neither is enough, or a block has no like.
    """
    trouble = ""
    for around in ((0,), (-1, 0), (-1, 0, 1)):
        found: dict[Any, Differences] = {}
        names, grown = _named(few, around), set[Any]()
        for name, growth in zip(names, growths, strict=True):
            if found.setdefault(name, growth) != growth:
                grown.add(name)
        try:
            return [found[name] for name in _named(many, around) if not _ambiguous(name, grown)]
        except _Unlike as unlike:
            trouble = str(unlike)
        except KeyError as missing:
            (op, _, size) = missing.args[0][around.index(0)]
            trouble = trouble or f"{op}: no block of {size:,} bytes in a model of fewer layers"
    raise NotShown(trouble)


class _Unlike(Exception):  # said inside this module alone
    """Blocks that look alike grow in different ways."""


def _ambiguous(name: Any, grown: set[Any]) -> bool:
    if name in grown:
        op, _, size = name[len(name) // 2]
        raise _Unlike(f"{op}: two blocks of {size:,} bytes grow in different ways")
    return False


def _named(blocks: list[Block], around: tuple[int, ...]) -> list[Any]:
    kinds = [("", "", 0), *((block.op, block.part, block.asked) for block in blocks), ("", "", 0)]
    return [tuple(kinds[n + offset] for offset in around) for n in range(1, len(kinds) - 1)]


def forward(values: list[int]) -> Differences:
    """Forward differences at the first of values that are a step apart."""
    made = []
    while values:
        made.append(values[0])
        values = [after - before for before, after in pairwise(values)]
    return tuple(made)


def evaluated(differences: Floats, axis: Axis, value: int) -> Floats:
    """The polynomials of those differences, (orders, ...), at that point of the axis. Newton's forward formula."""
    total: Floats = np.zeros_like(differences[0])
    k, term = (value - axis.first) / axis.step, 1.0
    for order, difference in enumerate(differences):
        total = total + term * difference
        term *= (k - order) / (order + 1)
    return total


def newton(differences: Sequence[int], k: int) -> int:
    """The polynomial of those differences, `k` steps from the first point, exactly."""
    total, term = 0, 1
    for order, difference in enumerate(differences):
        total += term * difference
        term = term * (k - order) // (order + 1)
    return total
