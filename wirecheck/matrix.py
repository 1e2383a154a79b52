"""Many models, every pair: each model is probed once, and of a pair only what needs both is run. Prints nothing.

Models first, then pairs. Whatever is run is run in a process of its own with a limit of time: what crashes, hangs or is
killed costs its own row or cell. Only this process writes to the store, so a run that is cut off loses what was under
way and nothing else. Where a pair's questions are all answered by what is kept of its models, nothing is run of it:
its cell is made when it is asked for, and none of them is held in memory.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, combinations
from typing import Protocol

from wirecheck.errors import CouldNotCheck, UsageError
from wirecheck.fork_pool import MEMORY_BYTES, Answered, Died, Limits, in_forks
from wirecheck.gate_shelf import Shelf, key_of
from wirecheck.matrix_records import Matrix, MatrixCell, MatrixModel
from wirecheck.matrix_rule import Rule, Unknown
from wirecheck.matrix_shelf import MatrixShelf
from wirecheck.matrix_work import JUDGED, ModelWork, Pair, PairWork, ProbedModel, Work
from wirecheck.runner import Check, Request, Silent, environment
from wirecheck.schema import PairResult
from wirecheck.sketch import Sketch
from wirecheck.snapshot import Snapshot
from wirecheck.vocabulary import shared

MODEL_LIMIT_S = 1800.0
"""Of all probes of one model."""
PAIR_LIMIT_S = 900.0
"""Of all probes of one pair; a tile of pairs is given as much for each."""
TILE_MODELS = 4
"""Pairs of that many models with that many others are run in one process, which loads each model's files once."""


class Watch(Protocol):
    """Told what happens while it happens."""

    def model(self, model: MatrixModel, *, kept: bool) -> None:
        """A model is probed, or could not be read."""

    def cell(self, cell: MatrixCell) -> None:
        """A pair was run, is known from an earlier run, or could not be judged."""


class Executor(Protocol):
    """Where work is run."""

    @property
    def models_at_once(self) -> int:
        """Models whose files are looked at before the first of them is probed; what is known of them is in memory."""

    @property
    def width(self) -> int:
        """Pieces of work that may be under way at once."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether the work may be run on another machine."""

    def run(self, names: Sequence[str], work: Work, *, limit_s: float) -> Iterator[Answered | Died]:
        """What `work(name)` returns for each name, or how its process died, in the order they end."""


@dataclass(frozen=True)
class Local:
    """Forked children of this process, as many at a time as there are jobs."""

    jobs: int
    memory_bytes: int = MEMORY_BYTES
    models_at_once: int = 128
    is_elsewhere: bool = False

    @property
    def width(self) -> int:
        """One for each job."""
        return self.jobs

    def run(self, names: Sequence[str], work: Work, *, limit_s: float) -> Iterator[Answered | Died]:
        """As Executor says it."""
        work.prepare()
        limits = Limits(seconds=limit_s, memory_bytes=self.memory_bytes, open_files=work.runs_code_of_the_user)
        return in_forks(names, work, jobs=self.jobs, limits=limits)


@dataclass
class Survey:
    """One run over many models, and how far it has come."""

    request: Request
    read: Mapping[str, Callable[[], Snapshot]]
    """Model's name -> what reads it. Raises CouldNotCheck's children."""
    pairs: Collection[Pair]
    shelf: Shelf
    watch: Watch
    executor: Executor
    model_limit_s: float = MODEL_LIMIT_S
    pair_limit_s: float = PAIR_LIMIT_S
    models: dict[str, MatrixModel] = field(default_factory=dict)
    sketches: dict[str, Sketch] = field(default_factory=dict)
    kept_models: set[str] = field(default_factory=set)
    """Those whose sketch an earlier run made."""
    run_cells: dict[Pair, MatrixCell] = field(default_factory=dict)
    """Pairs that were run, now or earlier."""
    _held: dict[str, Snapshot] = field(default_factory=dict)
    """Files of the models, where pairs are to be run."""
    _common: dict[str, dict[str, int]] = field(default_factory=dict)
    """What vocabularies share, by the digests of both, the lower one first."""
    _gone: set[str] = field(default_factory=set)
    """Vocabularies that could not be compared with some other."""
    begin: float = field(default_factory=time.perf_counter)

    @cached_property
    def kept(self) -> MatrixShelf:
        """What is kept of models and pairs."""
        return MatrixShelf(self.shelf, self.request, is_elsewhere=self.executor.is_elsewhere)

    @cached_property
    def rule(self) -> Rule:
        """What judges pairs without running anything."""
        return Rule(self.request, self._shared)

    def run(self) -> None:
        """Everything that must be run. Ctrl-C passes: what has come by then stands, and is in the store."""
        names, some = list(self.read), self.executor.models_at_once
        for first in range(0, len(names), some):
            taken = {name: found for name in names[first : first + some] if (found := self._take(name)) is not None}
            self._probe({name: found for name, found in taken.items() if not self._known(name)})
            if not self.rule.covers:
                self._held |= taken
        self._compare_vocabularies()
        self._judge(self._to_be_run())

    def cells(self) -> Iterator[MatrixCell]:
        """Every pair's cell, in the order of the pairs, without those that a run which was cut off did not reach."""
        for pair in self.pairs:
            cell = self._lost_cell(pair) or self.run_cells.get(pair) or self._ruled(pair)
            if cell is not None:
                yield cell

    def head(self, cells: Sequence[MatrixCell] = (), *, count: int | None = None) -> Matrix:
        """The record as it stands, with these cells; `count` of them were made."""
        request = self.request
        return Matrix(
            status="finished" if (len(cells) if count is None else count) == len(self.pairs) else "interrupted",
            command=request.command,
            seed=request.seed,
            wire=request.wire,
            train=request.train,
            policy=request.policy,
            environment=environment(),
            models=tuple(self.models.values()),
            cells=tuple(cells),
            seconds=round(time.perf_counter() - self.begin, 1),
        )

    def results(self, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, PairResult]]:
        """Whole results, of those pairs that have one; what is kept of none of them is run."""
        missing = [pair for pair in pairs if self.kept.pair_runs(pair) is None]
        work = self._pair_work({name for pair in pairs for name in pair})
        for _ in self._run_tiles(work, self._tiles(missing)):
            continue  # its process died: it has no result
        for pair in pairs:
            own = self.kept.pair_runs(pair)
            if own is not None and work.snapshots.keys() >= set(pair):
                yield pair, work.result(pair, own)

    # --- models -----------------------------------------------------------------------------------------------------

    def _take(self, name: str) -> Snapshot | None:
        try:
            found = self.read[name]()
        except (CouldNotCheck, UsageError) as error:  # one bad line of a list costs its row
            self._lost(name, error.message, error.next_step)
            return None
        shown = self.sketches[name].shown if name in self.sketches else {}
        self.models[name] = MatrixModel(name=name, ref=found.ref.text, commit=found.commit, **shown)
        self.kept.keys[name] = self._key(found)
        return found

    def _key(self, snapshot: Snapshot) -> str:
        return key_of(Check(self.request, snapshot, snapshot, Silent()), "a")

    def _is_still(self, name: str, snapshot: Snapshot) -> bool:
        """Whether the model's files are those its key was made of; else it is lost, and nothing of it is kept."""
        if self._key(snapshot) == self.kept.keys[name]:
            return True
        if self.models[name].why is None:
            self._lost(name, "its files changed while the matrix ran", "run it again")
        return False

    def _lost(self, name: str, why: str, next_step: str | None = None) -> None:
        known = self.models.get(name) or MatrixModel(name=name, ref=name)
        self.sketches.pop(name, None)
        self.models[name] = known.model_copy(update={"why": why, "next_step": next_step})
        self.watch.model(self.models[name], kept=False)

    def _known(self, name: str) -> bool:
        """Whether the store holds what the model came to; then it is taken."""
        found = self.kept.sketch(name)
        if found is None:
            return False
        self.kept_models.add(name)
        self._sketched(name, found)
        return True

    def _probe(self, snapshots: Mapping[str, Snapshot]) -> None:
        if not snapshots:
            return
        names: dict[str, list[str]] = {}  # two names may stand for one model
        for name in snapshots:
            names.setdefault(self.kept.keys[name], []).append(name)
        work = ModelWork(self.request, {key: snapshots[alike[0]] for key, alike in names.items()})
        for ended in self.executor.run(list(names), work, limit_s=self.model_limit_s):
            match ended:
                case Answered(name=key, text=text):
                    found = ProbedModel.model_validate_json(text)
                    still = [name for name in names[key] if self._is_still(name, snapshots[name])]
                    if still:
                        self.kept.keep_model(key, found)
                    self.kept.passing |= set() if found.is_final else set(still)
                    for name in still:
                        self._sketched(name, found.sketch)
                case Died(name=key, why=why):
                    for name in names[key]:
                        self._lost(name, f"its probes did not end: {why}", f"wirecheck model {self.models[name].ref}")

    def _sketched(self, name: str, found: Sketch) -> None:
        self.sketches[name] = found
        self.models[name] = self.models[name].model_copy(update=found.shown)
        self.watch.model(self.models[name], kept=name in self.kept_models)

    # --- vocabularies -------------------------------------------------------------------------------------------------

    def _compare_vocabularies(self) -> None:
        """Every two that pairs have, where nothing is run of pairs: those that an earlier run compared are taken."""
        if not self.rule.covers:
            return
        digests = {name: one.vocabulary for name, one in self.sketches.items() if one.vocabulary is not None}
        for digest in dict.fromkeys(digests.values()):
            self._common[digest] = self.kept.shared(digest)
        asked = {(digests[a], digests[b]) for a, b in self.pairs if a in digests and b in digests}
        missing = sorted({(min(two), max(two)) for two in asked if max(two) not in self._common[min(two)]})
        try:
            for a, b in (two for tile in tiles(missing) for two in tile):
                try:
                    self._common[a][b] = shared(self.kept.fingerprints(a), self.kept.fingerprints(b))
                except LookupError:  # the store lost one: that pair is run
                    self._gone |= {a, b}
        finally:
            self.kept.keep_shared({a: self._common[a] for a, _ in missing})

    def _shared(self, a: str, b: str) -> int:
        try:
            return self._common[min(a, b)][max(a, b)]
        except KeyError:
            raise Unknown from None

    # --- pairs --------------------------------------------------------------------------------------------------------

    def _lost_cell(self, pair: Pair) -> MatrixCell | None:
        """What is said where nothing can be asked, since one of the models is lost."""
        why = tuple(
            f"{name}: {self.models[name].why}" for name in pair if name in self.models and self.models[name].why
        )
        return MatrixCell(a=pair[0], b=pair[1], outcome="could-not-check", why=why) if why else None

    def _ruled(self, pair: Pair) -> MatrixCell | None:
        """What is said by what is kept of both; None where that does not tell."""
        a, b = pair
        if a not in self.sketches or b not in self.sketches:
            return None
        kept = a in self.kept_models and b in self.kept_models
        try:
            return self.rule.cell((a, self.sketches[a]), (b, self.sketches[b]), kept=kept)
        except Unknown:
            return None

    def _to_be_run(self) -> list[Pair]:
        """The pairs whose models are known, and whose cells the rule does not give."""
        if not self.rule.covers:
            return [pair for pair in self.pairs if self.sketches.keys() >= set(pair)]
        odd = {name for name, one in self.sketches.items() if not self._is_plain(one)}
        mixed = [pair for pair in self.pairs if not odd.isdisjoint(pair) and self.sketches.keys() >= set(pair)]
        return [pair for pair in mixed if self._ruled(pair) is None]

    def _is_plain(self, one: Sketch) -> bool:
        """Whether no pair of it has a question that the rule does not cover."""
        sizes = (one.hidden_size, one.num_layers, one.vocabulary)
        return None not in sizes and one.has_layout and all(one.lengths or [0]) and one.vocabulary not in self._gone

    def _judge(self, pairs: Sequence[Pair]) -> None:
        """Those that earlier runs know are taken; the others are run, a tile at a time, and what died of them alone."""
        for pair, cell in self.kept.cells(pairs):
            self._put(pair, cell)
        waiting = [pair for pair in pairs if pair not in self.run_cells]
        if not waiting:
            return
        work = self._pair_work({name for pair in waiting for name in pair})
        waiting = [pair for pair in waiting if work.snapshots.keys() >= set(pair)]
        again = [pair for tile, _ in self._run_tiles(work, self._tiles(waiting)) for pair in tile]
        for ((a, b),), died in self._run_tiles(work, [[pair] for pair in again], tried="again"):
            why = (f"its probes did not end: {died.why}",)
            self._put((a, b), MatrixCell(a=a, b=b, outcome="could-not-check", why=why, seconds=died.seconds))

    def _pair_work(self, names: set[str]) -> PairWork:
        """What pairs of those models are run from; a model that is gone, or another by now, is lost."""
        snapshots: dict[str, Snapshot] = {}
        for name in sorted(names):
            known = self.kept.keys[name]
            found = self._held.get(name) or self._take(name)
            self.kept.keys[name] = known
            if found is not None and self._is_still(name, found):
                snapshots[name] = found
                if self.kept.runs(name) is None:  # the store lost it
                    self._probe({name: found})
        runs = {name: text for name in snapshots if (text := self.kept.runs(name)) is not None}
        return PairWork(self.request, {name: snapshots[name] for name in runs}, runs, {})

    def _run_tiles(
        self, work: PairWork, groups: Sequence[Sequence[Pair]], tried: str = ""
    ) -> Iterator[tuple[Sequence[Pair], Died]]:
        """Runs them; gives back those whose process died. What was `tried` once is another piece of work."""
        if not groups:
            return
        by_key = {self._tile_key(tile, tried): tile for tile in groups}
        limit_s = self.pair_limit_s * max(map(len, groups))
        for ended in self.executor.run(list(by_key), replace(work, tiles=by_key), limit_s=limit_s):
            match ended:
                case Answered(name=key, text=text):
                    names = {name for pair in by_key[key] for name in pair}
                    gone = {name for name in names if not self._is_still(name, work.snapshots[name])}
                    found = [one for one in JUDGED.validate_json(text) if gone.isdisjoint((one.cell.a, one.cell.b))]
                    self.kept.keep_pairs(found)
                    for one in found:
                        self._put((one.cell.a, one.cell.b), one.cell)
                case Died(name=key):
                    yield by_key[key], ended

    def _tiles(self, pairs: Sequence[Pair]) -> list[list[Pair]]:
        """As large as they may be while there are two for each that may run at once."""
        made = tiles(pairs)
        for models in range(TILE_MODELS - 1, 0, -1):
            if len(made) >= 2 * self.executor.width:
                break
            made = tiles(pairs, models)
        return made

    def _tile_key(self, tile: Sequence[Pair], tried: str) -> str:
        """Of all that the answer depends on: the names, too, which are in it."""
        told = [tried, *((self.kept.pair_key(pair), *pair) for pair in tile)]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:40]

    def _put(self, pair: Pair, cell: MatrixCell) -> None:
        self.run_cells[pair] = cell
        self.watch.cell(cell)


def tiles(pairs: Sequence[Pair], models: int = TILE_MODELS) -> list[list[Pair]]:
    """The pairs in groups that share their models: of each group every model is one of at most twice as many."""
    order = {name: n for n, name in enumerate(dict.fromkeys(name for pair in pairs for name in pair))}
    groups: dict[tuple[int, int], list[Pair]] = {}
    for pair in pairs:
        a, b = sorted(order[name] // models for name in pair)
        groups.setdefault((a, b), []).append(pair)
    return list(groups.values())


@dataclass(frozen=True)
class EveryPair(Collection[Pair]):
    """Every pair of the names, in their order, made when it is asked for: of 10,000 names a list would take 3.6 GB."""

    names: Sequence[str]
    against: str | None = None
    """Only the pairs of that one."""

    def __len__(self) -> int:
        """Pairs."""
        n = len(self.names)
        return n * (n - 1) // 2 if self.against is None else n - 1

    def __iter__(self) -> Iterator[Pair]:
        """In the order of the names, the earlier one first."""
        if self.against is None:
            return combinations(self.names, 2)
        at = list(self.names).index(self.against)
        before = ((name, self.against) for name in self.names[:at])
        return chain(before, ((self.against, name) for name in self.names[at + 1 :]))

    def __contains__(self, pair: object) -> bool:
        """Whether it is one of them."""
        return any(pair == one for one in self)
