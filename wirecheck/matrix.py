"""Many models, every pair: each model is probed once, and of a pair only what needs both is run. Prints nothing.

Models first, then pairs, each in a forked child with a limit of time: what crashes, hangs or is killed costs its own
row or cell. Only this process writes to the store, so a run that is cut off loses what was under way and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Protocol

from pydantic import TypeAdapter

from wirecheck.errors import CouldNotCheck
from wirecheck.fork_pool import Answered, Died, in_forks
from wirecheck.gate_records import OUTCOMES
from wirecheck.gate_shelf import Shelf, of_side
from wirecheck.loan import Loan
from wirecheck.matrix_records import Matrix, MatrixCause, MatrixCell, MatrixModel
from wirecheck.runner import Check, Request, Silent, environment
from wirecheck.schema import Fact, PairResult, ProbeRun, Severity, Subject, strongest
from wirecheck.snapshot import Snapshot

MODEL_LIMIT_S = 1800.0
"""Of all probes of one model."""
PAIR_LIMIT_S = 900.0
"""Of all probes of one pair; a tile of pairs is given as much for each."""
TILE = 4
"""Pairs of that many models with that many others are run in one child, which loads each model's files once."""
Pair = tuple[str, str]
_RUNS: TypeAdapter[tuple[ProbeRun, ...]] = TypeAdapter(tuple[ProbeRun, ...])
_RESULTS: TypeAdapter[tuple[PairResult, ...]] = TypeAdapter(tuple[PairResult, ...])


class Watch(Protocol):
    """Told what happens while it happens."""

    def model(self, model: MatrixModel, *, kept: bool) -> None:
        """A model is probed, or could not be read."""

    def cell(self, cell: MatrixCell) -> None:
        """A pair is judged, or could not be."""


@dataclass
class Survey:
    """One run over many models, and how far it has come."""

    request: Request
    read: Mapping[str, Callable[[], Snapshot]]
    """Model's name -> what reads it. Raises CouldNotCheck's children."""
    pairs: Sequence[Pair]
    shelf: Shelf
    watch: Watch
    jobs: int
    model_limit_s: float = MODEL_LIMIT_S
    pair_limit_s: float = PAIR_LIMIT_S
    models: dict[str, MatrixModel] = field(default_factory=dict)
    cells: dict[Pair, MatrixCell] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    runs: dict[str, tuple[ProbeRun, ...]] = field(default_factory=dict)
    begin: float = field(default_factory=time.perf_counter)

    def run(self) -> None:
        """Everything. Ctrl-C passes: what is in `cells` by then stands, and is in the store."""
        for name in self.read:
            self._take(name)
        self._probe([name for name in self.snapshots if not self._known(name)])
        open_pairs = [pair for pair in self.pairs if not self._settled(pair)]
        for tile in tiles(open_pairs):
            self._judge_kept(tile)
        self._judge([pair for pair in open_pairs if pair not in self.cells])

    def result(self) -> Matrix:
        """The record as it stands."""
        request = self.request
        cells = tuple(self.cells[pair] for pair in self.pairs if pair in self.cells)
        return Matrix(
            status="finished" if len(cells) == len(self.pairs) else "interrupted",
            command=request.command,
            seed=request.seed,
            wire=request.wire,
            train=request.train,
            policy=request.policy,
            environment=environment(),
            models=tuple(self.models.values()),
            cells=cells,
            seconds=round(time.perf_counter() - self.begin, 1),
        )

    # --- models ---------------------------------------------------------------------------------------------------

    def _take(self, name: str) -> None:
        try:
            self.snapshots[name] = found = self.read[name]()
        except CouldNotCheck as error:
            self._lost(name, error.message, error.next_step)
            return
        self.models[name] = MatrixModel(name=name, ref=found.ref.text, commit=found.commit)

    def _lost(self, name: str, why: str, next_step: str | None = None) -> None:
        known = self.models.get(name) or MatrixModel(name=name, ref=name)
        self.models[name] = known.model_copy(update={"why": why, "next_step": next_step})
        self.snapshots.pop(name, None)
        self.watch.model(self.models[name], kept=False)

    def _known(self, name: str) -> bool:
        """Whether the store holds the model's runs; then they are taken."""
        found = self.shelf.models(self._check(name, name)).get("a")
        if found is None:
            return False
        self._probed(name, found, kept=True)
        return True

    def _probe(self, names: Sequence[str]) -> None:
        if not names:
            return
        _warm()
        for ended in in_forks(names, self._model_runs, jobs=self.jobs, limit_s=self.model_limit_s):
            match ended:
                case Answered(name=name, text=text):
                    found = _RUNS.validate_json(text)
                    self.shelf.keep_model(self._check(name, name), found)
                    self._probed(name, found, kept=False)
                case Died(name=name, why=why):
                    self._lost(name, f"its probes did not end: {why}", f"wirecheck model {self.models[name].ref}")

    def _model_runs(self, name: str) -> str:
        """In a child: every probe of one model."""
        return _RUNS.dump_json(self._check(name, name).model_runs()).decode()

    def _probed(self, name: str, runs: tuple[ProbeRun, ...], *, kept: bool) -> None:
        self.runs[name] = runs
        facts = [fact for run in runs for fact in run.facts]
        shown = {key: value for key in _SHOWN if (value := _value(facts, key)) is not None}
        self.models[name] = self.models[name].model_copy(update=shown)
        self.watch.model(self.models[name], kept=kept)

    # --- pairs ----------------------------------------------------------------------------------------------------

    def _check(self, a: str, b: str) -> Check:
        known: dict[Subject, Sequence[ProbeRun]] = {}
        if a in self.runs and b in self.runs:
            known = {"a": self.runs[a], "b": of_side(self.runs[b], "b")}
        return Check(self.request, self.snapshots[a], self.snapshots[b], Silent(), known=known)

    def _settled(self, pair: Pair) -> bool:
        """Whether nothing can be asked of the pair, since one of its models is lost."""
        lost = [name for name in pair if name not in self.runs]
        if lost:
            why = tuple(f"{name}: {self.models[name].why}" for name in lost)
            self._put(pair, MatrixCell(a=pair[0], b=pair[1], outcome="could-not-check", why=why))
        return bool(lost)

    def _judge_kept(self, pairs: Sequence[Pair]) -> None:
        """The pairs of which the store holds the whole."""
        for pair in pairs:
            found = self.shelf.pair(self._check(*pair))
            if found is not None:
                self._put(pair, cell_of(pair, found, 0.0).model_copy(update={"kept": True}))

    def _judge(self, pairs: Sequence[Pair]) -> None:
        """In children, a tile at a time; a tile whose child died is run again, a pair at a time."""
        if not pairs:
            return
        _warm()
        by_name = {f"{n}": tile for n, tile in enumerate(tiles(pairs))}
        limit_s = self.pair_limit_s * max(map(len, by_name.values()))
        again: list[Pair] = []
        for ended in self._in_tiles(by_name, limit_s):
            if isinstance(ended, Died):
                again += by_name[ended.name]
        alone = {f"{n}": [pair] for n, pair in enumerate(again)}
        for ended in self._in_tiles(alone, self.pair_limit_s) if alone else ():
            if isinstance(ended, Died):
                a, b = alone[ended.name][0]
                why = (f"its probes did not end: {ended.why}",)
                self._put((a, b), MatrixCell(a=a, b=b, outcome="could-not-check", why=why, seconds=ended.seconds))

    def _in_tiles(self, by_name: Mapping[str, Sequence[Pair]], limit_s: float) -> Iterator[Answered | Died]:
        def work(name: str) -> str:
            lent: dict[str, Loan] = {}
            return _RESULTS.dump_json(tuple(self._judged(pair, lent) for pair in by_name[name])).decode()

        for ended in in_forks(list(by_name), work, jobs=self.jobs, limit_s=limit_s):
            if isinstance(ended, Answered):
                pairs = by_name[ended.name]
                results = _RESULTS.validate_json(ended.text)
                self.shelf.keep_pairs([(self._check(*pair), one) for pair, one in zip(pairs, results, strict=True)])
                for pair, one in zip(pairs, results, strict=True):
                    self._put(pair, cell_of(pair, one, ended.seconds / len(pairs)))
            yield ended

    def _judged(self, pair: Pair, lent: dict[str, Loan]) -> PairResult:
        """In a child: the probes that need both, which share what is made of one model alone with their tile."""
        a, b = (lent.setdefault(name, Loan()) for name in pair)
        return replace(self._check(*pair), lent={"a": a, "b": b}).run()

    def _put(self, pair: Pair, cell: MatrixCell) -> None:
        self.cells[pair] = cell
        self.watch.cell(cell)


_SHOWN = ("model_type", "hidden_size", "vocab_size", "num_parameters")


def _value(facts: Sequence[Fact], key: str) -> object:
    found = strongest(facts, "a", key)
    return None if found is None else found.value


def cell_of(pair: Pair, result: PairResult, seconds: float) -> MatrixCell:
    """What a table tells of one result."""
    refused = (Severity.BLOCK, Severity.WARN) if result.policy.strict else (Severity.BLOCK,)
    findings = [one for one in result.findings if one.severity in refused]
    facts = {fact.key: fact.value for run in result.runs for fact in run.facts if fact.subject == "pair"}
    told = {key: facts[key] for key in ("token_length_ratio", "vocabulary_shared") if facts.get(key) is not None}
    return MatrixCell(
        a=pair[0],
        b=pair[1],
        outcome=OUTCOMES[result.verdict.outcome],
        strength=result.verdict.strength,
        causes=tuple(
            MatrixCause(code=code, subject=subject, claim=claim)
            for code, subject, claim in sorted({(one.code, one.subject, one.claim) for one in findings})
        ),
        why=result.verdict.because,
        warnings=sum(one.severity is Severity.WARN for one in result.findings),
        memory=None if result.memory is None else result.memory.allocated_bytes,
        memory_method=None if result.memory is None else result.memory.method,
        seconds=round(seconds, 3),
        **told,
    )


def tiles(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The pairs in groups that share their models: of each group every model is one of at most 2 x TILE."""
    order = {name: n for n, name in enumerate(dict.fromkeys(name for pair in pairs for name in pair))}
    groups: dict[tuple[int, int], list[Pair]] = {}
    for pair in pairs:
        a, b = sorted(order[name] // TILE for name in pair)
        groups.setdefault((a, b), []).append(pair)
    return list(groups.values())


def every_pair(names: Sequence[str], against: str | None = None) -> list[Pair]:
    """Every pair, in the order of the names; with `against`, only those of that model."""
    pairs = list(combinations(names, 2))
    return pairs if against is None else [pair for pair in pairs if against in pair]


def _warm() -> None:
    """What every child needs, imported before the first is forked."""
    from wirecheck import zoo

    zoo.transformers_library()
    import torch  # noqa: F401 - loaded once here, and not in every child


def ranked(cells: Sequence[MatrixCell]) -> list[MatrixCell]:
    """The best first: verdict, the rung it stands on, fewer warnings, less memory, token lengths that are nearest."""
    worst = ("compatible", "unproven", "not-run", "could-not-check", "incompatible")

    def key(cell: MatrixCell) -> tuple[float, ...]:
        ratio = cell.token_length_ratio or 0.0
        apart = max(ratio, 1 / ratio) if ratio > 0 else float("inf")
        memory = float("inf") if cell.memory is None else float(cell.memory)
        rank = -1 if cell.strength is None else cell.strength.rank
        return (worst.index(cell.outcome), -rank, cell.warnings, memory, apart)

    return sorted(cells, key=lambda cell: (key(cell), cell.a, cell.b))
