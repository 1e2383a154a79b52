"""What GPUs hold of a pair's step at most, by trace: the ways it is tried in, and the work shared among processes.

Each piece of the work, one set of kernels and options, is done in a forked child of its own: a class that crashes or
hangs costs its rows, which then say so. Prints nothing; torch is loaded by what is called.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from wirecheck.errors import CannotRun, CouldNotCheck, Interrupted
from wirecheck.fit_by_formula import rows_by_formula
from wirecheck.fit_curves import Group, rows_in_forks, with_curves
from wirecheck.frontier_records import Frontier, FrontierGpu, FrontierRow, Placement, Way, WayName
from wirecheck.probe import ModelBench, PairBench
from wirecheck.probe_run import run_one
from wirecheck.probes import MODEL_PROBES
from wirecheck.runner import Request, checked, environment, why_not
from wirecheck.schema import GpuRequest, ProbeRun, Ran, Severity, TrainSpec
from wirecheck.snapshot import Snapshot
from wirecheck.vram.gpus import Gpu, find
from wirecheck.vram.plan import MARGIN, Step, target_of
from wirecheck.vram.search import last_context
from wirecheck.wires.traceable import traceable

if TYPE_CHECKING:
    from wirecheck.vram.attention import Target
    from wirecheck.wires.contract import SideName

GPUS = ("T4", "L4", "RTX-4090", "A6000", "A100-40GB", "A100-80GB", "H100-80GB", "H200")
"""Asked about where no GPU is named: what clusters and desks have, by size."""
LIMIT_S = 900.0
"""Seconds one piece of the work may take; on one GPU the slowest takes a small part of it."""
NEEDED = ("config",)
"""Probes that have to pass before a class is run on a model's config. The weights need not be there."""
CHANGES: Mapping[WayName, Mapping[str, object]] = {
    "as-asked": {},
    "checkpointing": {"grad_checkpointing": True},
    "in-turns": {"resident": "sequential"},
    "in-turns-checkpointing": {"grad_checkpointing": True, "resident": "sequential"},
}
"""What each way sets of the training's spec."""
WORDS: Mapping[WayName, str] = {
    "as-asked": "as asked",
    "checkpointing": "checkpointing",
    "in-turns": "in turns",
    "in-turns-checkpointing": "in turns, checkpointing",
}
ASSUMPTIONS = tuple(
    " ".join(lines.split())
    for lines in (
        """Every answer is from traces of two steps: the real classes at full shape, wire, losses and optimizer, without
        data. The first step is told from the second, which it repeats but for what it finds there. Nothing was measured
        on a GPU.""",
        f"""An answer fits at the upper end of the stated error: {MARGIN:.0%} of what is allocated, and the largest
        context in the table of GPUs; torch's allocator, replayed, then finds room for every request.""",
        """The upper figure of a range is the largest value that is not out of the question at the lower end of that
        error.""",
        """Rows are padded unevenly, one row of three to the full length. Lengths are steps of 128 text tokens.""",
        """Found on a surface: the step at any size is told from blocks that grow as polynomials of batch and length,
        which further traces bore out to the byte. Found on traces: each size that was tried was traced.""",
    )
)
BY_FORMULA = tuple(
    " ".join(lines.split())
    for lines in (
        """The wire is not one that can be traced: every answer is from a formula on declared sizes, within its own
        margin and the contexts in the table of GPUs. Nothing was run, and nothing was measured on a GPU.""",
        """What a wire of your own trains and keeps is not known to it: then nothing is shown to fit.""",
    )
)
CURVE = (
    "A curve (--curve) says of each context what would be said if that had been asked for. It ends at the first "
    "context where not a row may fit, or at the models' last. A model that is split over GPUs gets none."
)
_PLACEMENTS: tuple[Placement, ...] = ("one-gpu", "one-model-per-gpu", "split")


class Progress(Protocol):
    """Told what happens while it happens."""

    def note(self, words: str) -> None:
        """What is under way."""

    def rows(self, rows: Sequence[FrontierRow], done: int, total: int) -> None:
        """Those rows are there; `done` pieces of `total` are finished."""


@dataclass(frozen=True)
class Piece:
    """Rows that share their traces: one kind of kernels, one placement, one way."""

    placement: Placement
    gpus: tuple[tuple[Gpu, int], ...]
    way: WayName


def ways_of(train: TrainSpec) -> tuple[WayName, ...]:
    """The ways that differ from one another, given what the training already does."""
    seen: dict[TrainSpec, WayName] = {}
    for way, changed in CHANGES.items():
        seen.setdefault(train.model_copy(update=dict(changed)), way)
    return tuple(seen.values())


def pieces(gpus: Sequence[tuple[Gpu, int]], ways: Sequence[WayName]) -> list[Piece]:
    """The work, what takes longest first. Models on GPUs of their own have no turns to take."""
    alike: dict[tuple[Target, bool], list[tuple[Gpu, int]]] = {}
    for gpu, count in gpus:
        alike.setdefault((target_of(gpu), count > 1), []).append((gpu, count))
    made: list[Piece] = []
    for way in reversed(ways):
        for (_, several), group in alike.items():
            if not several:
                made.append(Piece("one-gpu", tuple(group), way))
            elif "resident" not in CHANGES[way]:
                made += [Piece("split", (one,), way) for one in group]
                made.append(Piece("one-model-per-gpu", tuple(group), way))
    return sorted(made, key=lambda piece: _PLACEMENTS.index(piece.placement), reverse=True)


def _in_its_way(step: Step, piece: Piece) -> Step:
    return replace(step.but(CHANGES[piece.way]), made={})


def work(step: Step, piece: Piece) -> Iterator[FrontierRow]:
    """The rows of one piece."""
    from wirecheck.vram.frontier import on_each, on_one, over_all

    asked = _in_its_way(step, piece)
    match piece.placement:
        case "one-gpu":
            yield from on_one(asked, [gpu for gpu, _ in piece.gpus], piece.way)
        case "one-model-per-gpu":
            yield from on_each(asked, piece.gpus, piece.way)
        case "split":
            for gpu, count in piece.gpus:
                yield over_all(asked, gpu, count, piece.way)


def fit(request: Request, a: Snapshot, b: Snapshot, progress: Progress, *, jobs: int, curve: bool = False) -> Frontier:
    """The frontier of a pair; `curve`: at more contexts too, which no split gets.

    CouldNotCheck where a config is not one to run; Interrupted with the rows so far.
    """
    begin = time.perf_counter()
    asked = request.policy.gpus or tuple(GpuRequest(name=name) for name in GPUS)
    gpus = [(find(one.name), one.count) for one in asked]
    ways = ways_of(request.train)
    rows: dict[tuple[str, int, WayName, Placement], FrontierRow] = {}
    try:
        progress.note("reading the configs …")
        benches = _bench(request, "a", a), _bench(request, "b", b)
        if not traceable(request.wire):
            untraced = _untraced(request, benches, gpus, ways, curve=curve)
            return _finished(request, a, b, untraced, begin)
        step = Step({one.side: one.config for one in benches}, request.wire, request.train, request.seed)
        todo = pieces(gpus, ways)
        again = _with_a_curve(todo) if curve else []
        found = chain(_shared_out(step, todo, jobs), _curved(step, again, rows, jobs))
        for done, made in enumerate(found, start=1):
            rows.update((_key(row), row) for row in made)
            progress.rows(made, done, len(todo) + len(again))
    except KeyboardInterrupt:
        raise Interrupted(started(request, a, b, rows=tuple(rows.values()), status="interrupted")) from None
    return _finished(request, a, b, tuple(rows.values()), begin)


def _finished(request: Request, a: Snapshot, b: Snapshot, rows: Sequence[FrontierRow], begin: float) -> Frontier:
    whole = started(request, a, b, rows=rows, status="finished")
    return whole.model_copy(update={"seconds": round(time.perf_counter() - begin, 1)})


def _untraced(
    request: Request,
    benches: tuple[ModelBench, ModelBench],
    gpus: Sequence[tuple[Gpu, int]],
    ways: Sequence[WayName],
    *,
    curve: bool = False,
) -> list[FrontierRow]:
    a, b = benches
    pair = PairBench(
        wire=request.wire,
        train=request.train,
        policy=request.policy,
        seed=request.seed,
        a=a,
        b=b,
        facts=a.facts + b.facts,
    )
    trained = [(way, request.train.model_copy(update=dict(CHANGES[way]))) for way in ways]
    own = ", without what it trains and keeps" if request.wire.is_own else ""
    why = f"the wire {request.wire.name} is not one that can be traced: by formula{own}"
    positions = (n if isinstance(n := pair.value(side, "max_positions"), int) else None for side in ("a", "b"))
    end = last_context(positions, request.wire.prefix_length + request.train.answer)
    return list(rows_by_formula(pair, gpus, trained, end, why, curve=curve))


def started(
    request: Request, a: Snapshot, b: Snapshot, *, rows: Sequence[FrontierRow] = (), status: str = "started"
) -> Frontier:
    """The record as it stands."""
    asked = request.policy.gpus or tuple(GpuRequest(name=name) for name in GPUS)
    found = [(find(one.name), one.count) for one in asked]
    names = [(gpu.name, count) for gpu, count in found]
    ways = ways_of(request.train)
    order = {
        (*name, way, place): n
        for n, (name, way, place) in enumerate((x, y, z) for x in names for y in ways for z in _PLACEMENTS)
    }
    return Frontier(
        status=status,
        command=request.command,
        seed=request.seed,
        a=checked(a),
        b=checked(b),
        wire=request.wire,
        train=request.train,
        environment=environment(),
        gpus=tuple(
            FrontierGpu(name=gpu.name, count=count, usable_bytes=gpu.usable_bytes, source=gpu.source)
            for gpu, count in found
        ),
        ways=tuple(Way(name=way, words=WORDS[way]) for way in ways),
        rows=tuple(sorted(rows, key=lambda row: order[_key(row)])),
        assumptions=_assumptions(
            request, several=any(count > 1 for _, count in found), curved=any(row.curve for row in rows)
        ),
    )


def _key(row: FrontierRow) -> tuple[str, int, WayName, Placement]:
    return row.gpu, row.count, row.way, row.placement


def _assumptions(request: Request, *, several: bool, curved: bool) -> tuple[str, ...]:
    said = list(ASSUMPTIONS if traceable(request.wire) else BY_FORMULA)
    if request.train.quantize != "none":
        said.append(f"Linear layers are held in {request.train.quantize}, as bitsandbytes does.")
    if not request.train.grad_checkpointing:
        said.append("Checkpointing: --grad-checkpointing.")
    if request.train.resident == "joint":
        said.append(
            "In turns: a model's weights leave the GPU when the other's forward begins, which is "
            'resident = "sequential" under [train] in a wirecheck.toml.'
        )
    if curved:
        said.append(CURVE)
    if several:
        said.append("A split model has the map that transformers' own inference gives, or an even one.")
    return tuple(said)


# --- the models, and the processes -------------------------------------------------------------------------------


def _bench(request: Request, side: SideName, snapshot: Snapshot) -> ModelBench:
    bench = ModelBench(
        wire=request.wire,
        train=request.train,
        policy=request.policy,
        seed=request.seed,
        side=side,
        snapshot=snapshot,
    )
    _ready(bench)
    return bench


def _ready(bench: ModelBench) -> None:
    """CouldNotCheck where a probe of the config says that there is nothing to run."""
    runs: list[ProbeRun] = []
    for probe in (one for one in MODEL_PROBES if one.name in NEEDED):
        reason = why_not(probe, bench.policy.depth, runs)
        run = None if reason else run_one(probe, bench)
        if run is not None:
            runs.append(run)
            bench.facts += run.facts
            blocks = [finding.claim for finding in run.findings if finding.severity is Severity.BLOCK]
            reason = blocks[0] if blocks else None if isinstance(run, Ran) else run.gap(run.level)
        if reason:
            ref = bench.snapshot.ref.text
            raise CouldNotCheck(f"{ref}: {reason}", next_step=f"wirecheck model {ref}")


def _shared_out(step: Step, todo: Sequence[Piece], jobs: int) -> Iterator[list[FrontierRow]]:
    """The rows of each piece, in the order they come."""
    if hasattr(os, "fork"):
        _warm(step)
    yield from rows_in_forks(todo, lambda piece: work(step, piece), _unanswered, jobs=jobs, limit_s=LIMIT_S)


def _unanswered(piece: Piece, why: str) -> list[FrontierRow]:
    return [
        FrontierRow(gpu=gpu.name, count=count, way=piece.way, placement=piece.placement, why=why)
        for gpu, count in piece.gpus
    ]


def _with_a_curve(todo: Sequence[Piece]) -> list[Piece]:
    """Not those where each value that is tried is traced over several GPUs."""
    return [piece for piece in todo if piece.placement != "split"]


def _curved(
    step: Step, todo: Sequence[Piece], rows: Mapping[tuple[str, int, WayName, Placement], FrontierRow], jobs: int
) -> Iterator[list[FrontierRow]]:
    """The rows of each piece with their curves; `rows`: all of them, found by now."""
    groups = []
    for piece in todo:
        own = [rows[gpu.name, count, piece.way, piece.placement] for gpu, count in piece.gpus]
        groups.append(Group(_in_its_way(step, piece), tuple(own)))
    yield from with_curves(groups, jobs, LIMIT_S)


def _warm(step: Step) -> None:
    """What every child would load, loaded once; what cannot be traced is the children's to say."""
    from wirecheck.vram.attention import Target
    from wirecheck.vram.step import Extent, trace_step

    try:
        trace_step(step.configs, step.wire, step.train, Target(), step.seed, Extent(thin=True, warm=True))
    except CannotRun:
        return
