"""Live bytes over one step, part by part, thinned to moments that hold every peak: what a picture of it needs.

E events of the step   P parts   N moments
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from wirecheck.timeline_records import MemoryTimeline, TimelinePart, TimelinePhase
from wirecheck.vram.live import Block, Ledger

MOMENTS = 96
"""Of a timeline, about: each phase has two at least."""
FEWEST = 12
"""Changes of memory; a shorter stretch of one kind is told as part of the phase before it."""


def timeline(ledger: Ledger, phase: str, held: dict[str, int] | None = None) -> MemoryTimeline | None:
    """The step that `phase` names, as it went: `step 2`. `held`: further bytes that are there throughout, by part.

    None where that step changed nothing. Of every stretch of events the fullest moment is kept, so that the peak of
    each phase, and of the step, are seen to the byte.
    """
    born = [bool(size) and ledger.blocks[block].phase == phase for block, size in ledger.events]
    if not any(born):
        return None
    first, last = born.index(True), max(n for n, one in enumerate(born) if one)
    parts = list(dict.fromkeys(ledger.blocks[block].part for block, size in ledger.events[: last + 1] if size))
    row = {part: n for n, part in enumerate(parts)}
    changes_PE = np.zeros((len(parts), len(ledger.events[: last + 1])), dtype=np.int64)
    for n, (number, size) in enumerate(ledger.events[: last + 1]):
        block = ledger.blocks[number]
        changes_PE[row[block.part], n] = size if size else -block.size
    live_PE = np.cumsum(changes_PE, axis=1)[:, first:]
    if not any(block.stage for block in ledger.blocks if block.phase == phase):
        return None
    phases = _phases([ledger.blocks[event.block] for event in ledger.events[first : last + 1]], phase)
    totals_E = live_PE.sum(axis=0)
    moments, starts = _moments(totals_E, phases)
    names = [name for name, _ in phases]
    told = [
        *((part, live_PE[n, moments].tolist()) for part, n in row.items()),
        *((part, [size] * len(moments)) for part, size in (held or {}).items()),
    ]
    return MemoryTimeline(
        phases=tuple(TimelinePhase(name=name, first=at) for name, at in zip(names, starts, strict=True)),
        parts=tuple(TimelinePart(name=part, bytes=tuple(sizes)) for part, sizes in told if any(sizes)),
        peak=int(np.argmax(totals_E[moments])),
    )


def _phases(blocks: list[Block], phase: str) -> list[tuple[str, int]]:
    """(what the step does, the first event of it), each other than the one before; stretches too short are no phase."""
    runs: list[tuple[str, int]] = []
    for n, block in enumerate(blocks):
        stage = block.stage if block.phase == phase else ""
        if stage and (not runs or runs[-1][0] != stage):
            runs.append((stage, n))
    ends = [*(at for _, at in runs[1:]), len(blocks)]
    long: list[tuple[str, int]] = []
    for (stage, at), end in reversed(list(zip(runs, ends, strict=True))):
        if end - at >= FEWEST or (not long and at == runs[0][1]):
            long.append((stage, at))
        elif long and long[-1][0].split()[0] == stage.split()[0]:  # how a backward begins belongs to it
            long[-1] = (long[-1][0], at)
    kept: list[tuple[str, int]] = []
    for stage, at in reversed(long or runs[:1]):
        if not kept or kept[-1][0] != stage:
            kept.append((stage, at if kept else 0))
    return kept


def _moments(totals_E: np.ndarray, phases: list[tuple[str, int]]) -> tuple[list[int], list[int]]:
    """The events to keep, and for each phase which of them is its first."""
    moments: list[int] = []
    starts: list[int] = []
    for start, end in pairwise([*(at for _, at in phases), len(totals_E)]):
        starts.append(len(moments))
        count = max(2, round(MOMENTS * (end - start) / len(totals_E)))
        edges = np.linspace(start, end, min(count, end - start) + 1).astype(int)
        moments += [int(x + np.argmax(totals_E[x:y])) for x, y in pairwise(edges.tolist())]
    return moments, starts
