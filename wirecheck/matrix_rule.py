"""The verdict on a pair from what is kept of its two models, where no question needs both of them loaded.

What is asked of a pair at `inspected` reads sizes, token counts and vocabularies. Here the same questions are answered
from two sketches, with the rules that the probes themselves use, in some tens of microseconds. A pair with a question
that these answers do not cover is not judged here, and the probes are run on it. A test compares both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

from wirecheck.codes import CODES
from wirecheck.gate_records import OUTCOMES, GateOutcome
from wirecheck.matrix_records import MatrixCause, MatrixCell
from wirecheck.probes.memory import MEMORY_FORMULA
from wirecheck.probes.pairing import PAIRING, length_ratio
from wirecheck.probes.wire_sizes import WIRE_SIZES
from wirecheck.runner import Request, beyond, pair_probes
from wirecheck.schema import Level, Severity
from wirecheck.sketch import Sketch
from wirecheck.verdict import Expected, Grave, Standing, decided, refused
from wirecheck.vram.formula import MemoryShape, peak_bytes, shared_parts, sums
from wirecheck.vram.gpus import find
from wirecheck.vram.moments import Terms
from wirecheck.vram.placement import not_shown, place, step_figures, unknown_sizes
from wirecheck.wires import WIRES, pair_count
from wirecheck.wires.sizes import Sizes, misfit

_PAIRING, _SIZES, _FORMULA = PAIRING.name, WIRE_SIZES.name, MEMORY_FORMULA.name
KNOWN = frozenset((_PAIRING, _SIZES, _FORMULA))
"""Probes of a pair that sketches can answer."""


class Unknown(Exception):
    """The sketches do not tell."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the formula needs of one model, made once."""

    shape: MemoryShape
    terms: Terms[int]


@dataclass(frozen=True, slots=True)
class Member:
    """One model as it stands on one side of its pairs."""

    name: str
    sketch: Sketch
    side: Literal["a", "b"]
    standing: Standing
    """Of its grave findings those that decide; one object for all models of which the same is to be said."""
    unmet: Mapping[str, str]
    moot: Mapping[str, str]
    is_asked: bool
    """Whether every question of a pair is asked, as far as it goes by this model."""
    no_shape: str | None
    shape: _Shape | None


class _Decided(NamedTuple):
    """What the verdict and its causes are; alike for very many pairs."""

    outcome: GateOutcome
    strength: Level | None
    because: tuple[str, ...]
    causes: tuple[MatrixCause, ...]


class Answer(NamedTuple):
    """What one question of a pair comes to."""

    gap: str | None = None
    grave: tuple[Grave, ...] = ()
    told: Mapping[str, float | int | str] = {}
    """Fields of the cell."""


@dataclass
class Rule:
    """Judges pairs of one request."""

    request: Request
    shared: Callable[[str, str], int]
    """Of two vocabularies, by digest: texts that are in both."""
    _members: dict[tuple[str, str], Member] = field(default_factory=dict)
    _standings: dict[Standing, Standing] = field(default_factory=dict)
    _verdicts: dict[tuple[int, int], _Decided] = field(default_factory=dict)
    """Of pairs that have nothing of their own to decide, by the standings of both."""

    @cached_property
    def covers(self) -> bool:
        """Whether every question that is to be asked of a pair can be answered from sketches."""
        depth = self.request.policy.depth
        asked = {probe.name for probe in pair_probes(self.request) if not beyond(probe, depth)}
        return asked <= KNOWN and (self.request.wire.is_own or self.request.wire.name in WIRES)

    def cell(self, a: tuple[str, Sketch], b: tuple[str, Sketch], *, kept: bool = False) -> MatrixCell:
        """The cell of two models, by name and sketch. Raises Unknown."""
        if not self.covers:
            raise Unknown
        one, other = self._member(*a, "a"), self._member(*b, "b")
        all_asked = one.is_asked and other.is_asked
        gaps, grave, told = list(self._beyond), list[Grave](), dict[str, float | int | str]()
        for question, answered in self._questions:
            answer = answered(one, other) if all_asked else self._answer(question.probe, answered, one, other)
            if answer.gap is not None:
                gaps.append((question, answer.gap))
            grave += answer.grave
            told |= answer.told
        if grave or len(gaps) > len(self._beyond):
            pair = Standing(levels=self._levels, gaps=tuple(gaps), grave=frozenset(grave))
            verdict = self._decided(one, other, pair)
        else:
            verdict = self._usual(one, other)
        return MatrixCell(
            a=one.name,
            b=other.name,
            outcome=verdict.outcome,
            strength=verdict.strength,
            causes=verdict.causes,
            why=verdict.because,
            warnings=one.sketch.warnings
            + other.sketch.warnings
            + sum(found.severity is Severity.WARN for found in grave),
            kept=kept,
            **told,
        )

    # --- what is the same for every pair ----------------------------------------------------------------------------

    @cached_property
    def _levels(self) -> frozenset[Level]:
        return frozenset(probe.level for probe in pair_probes(self.request))

    @cached_property
    def _beyond(self) -> tuple[tuple[Expected, str], ...]:
        depth = self.request.policy.depth
        return tuple(
            (Expected(probe.name, "pair", probe.level), f"skipped: {why}")
            for probe in pair_probes(self.request)
            if (why := beyond(probe, depth))
        )

    @cached_property
    def _questions(self) -> tuple[tuple[Expected, Callable[[Member, Member], Answer]], ...]:
        answers = {_PAIRING: self._pairing, _SIZES: self._sizes, _FORMULA: self._memory}
        return tuple(
            (Expected(probe.name, "pair", probe.level), answers[probe.name])
            for probe in pair_probes(self.request)
            if not beyond(probe, self.request.policy.depth)
        )

    def _member(self, name: str, sketch: Sketch, side: Literal["a", "b"]) -> Member:
        found = self._members.get((name, side))
        if found is None or found.sketch is not sketch:
            found = self._members[name, side] = self._made(name, sketch, side)
        return found

    def _made(self, name: str, sketch: Sketch, side: Literal["a", "b"]) -> Member:
        own, shape = getattr(sketch, side), None
        if sketch.shape is not None:
            on_side = replace(sketch.shape, side=side)
            shape = _Shape(on_side, sums(on_side, self.request.wire, self.request.train))
        whole: Standing = own.standing(side, sketch.levels)
        standing = replace(whole, grave=frozenset(one for one in whole.grave if one.severity in self._deciding))
        return Member(
            name,
            sketch,
            side,
            self._standings.setdefault(standing, standing),
            own.unmet,
            own.moot,
            not any(question.probe in held for question, _ in self._questions for held in (own.unmet, own.moot)),
            own.no_shape,
            shape,
        )

    # --- questions ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _answer(probe: str, answered: Callable[[Member, Member], Answer], a: Member, b: Member) -> Answer:
        """Whether it is asked at all, as `runner.why_not` says it."""
        why = a.unmet.get(probe) or b.unmet.get(probe) or a.moot.get(probe) or b.moot.get(probe)
        return Answer(gap=f"skipped: {why}") if why else answered(a, b)

    def _pairing(self, a: Member, b: Member) -> Answer:
        one, other = a.sketch, b.sketch
        if one.hidden_size is None or other.hidden_size is None or not (one.has_layout or other.has_layout):
            raise Unknown
        if one.lengths is None or other.lengths is None or one.vocabulary is None or other.vocabulary is None:
            raise Unknown
        if not all((*one.lengths, *other.lengths)):
            raise Unknown
        ratio, shared = length_ratio(one.lengths, other.lengths), self.shared(one.vocabulary, other.vocabulary)
        return Answer(told={"token_length_ratio": ratio, "vocabulary_shared": shared})

    def _sizes(self, a: Member, b: Member) -> Answer:
        if self.request.wire.is_own:
            return Answer()
        sizes = []
        for one in (a.sketch, b.sketch):
            if one.hidden_size is None or one.num_layers is None:
                raise Unknown
            sizes.append(Sizes(one.hidden_size, one.num_layers))
        faults = misfit(self.request.wire, *sizes)
        return Answer(grave=tuple(_grave("WIR13", fault.claim) for fault in faults))

    def _memory(self, a: Member, b: Member) -> Answer:
        missing: list[Grave] = []
        for one in (a, b):
            if one.no_shape is not None:
                return Answer(gap=f"skipped: {one.no_shape}", grave=tuple(missing))
            if one.shape is None:
                missing.append(_grave("MEM04", unknown_sizes(one.sketch.missing, one.side)))
        if missing:
            return Answer(grave=tuple(missing))
        assert a.shape is not None
        assert b.shape is not None
        allocated = peak_bytes((a.shape.terms, b.shape.terms), self.request.train)
        trainable, on_top = self._on_top(a.shape.shape.hidden_size, b.shape.shape.hidden_size)
        told: dict[str, float | int | str] = {"memory": allocated + on_top, "memory_method": "formula"}
        if not self.request.policy.gpus:
            return Answer(told=told)
        step = step_figures(
            (a.shape.shape, b.shape.shape),
            self.request.wire,
            self.request.train,
            trainable,
            allocated=allocated + on_top,
            is_counted=a.sketch.is_counted and b.sketch.is_counted,
        )
        placed = [(one, place(step, find(one.name), one.count)) for one in self.request.policy.gpus]
        grave = tuple(_grave(one.code, one.claim) for _, one in placed if one.fit != "fits")
        return Answer(gap=_skipped(not_shown(step, placed)), grave=grave, told=told)

    @cached_property
    def _on_top(self) -> Callable[[int, int], tuple[int, int]]:
        """(hidden size of A, of B) -> scalars that the wire trains, and the bytes of all that is no model's."""

        @lru_cache(maxsize=1 << 16)
        def on_top(hidden_a: int, hidden_b: int) -> tuple[int, int]:
            wire = self.request.wire
            trainable = 0 if wire.is_own else pair_count(wire, hidden_a, hidden_b).total
            parts = shared_parts((_bare(hidden_a), _bare(hidden_b)), wire, self.request.train, trainable)
            return trainable, sum(part.bytes for part in parts)

        return on_top

    # --- the verdict --------------------------------------------------------------------------------------------------

    def _usual(self, a: Member, b: Member) -> _Decided:
        """Of a pair that leaves open what every pair leaves open, and has nothing grave of its own."""
        key = (id(a.standing), id(b.standing))  # both are held in `_standings`
        if key not in self._verdicts:
            pair = Standing(levels=self._levels, gaps=self._beyond, grave=frozenset())
            self._verdicts[key] = self._decided(a, b, pair)
        return self._verdicts[key]

    def _decided(self, a: Member, b: Member, pair: Standing) -> _Decided:
        parts = (a.standing, b.standing, pair)
        outcome, strength, because = decided(parts, self.request.policy)
        grave = {
            (one.code, one.subject, one.claim) for part in parts for one in part.grave if one.severity in self._deciding
        }
        causes = tuple(MatrixCause(code=code, subject=subject, claim=claim) for code, subject, claim in sorted(grave))
        return _Decided(OUTCOMES[outcome], strength, because, causes)

    @cached_property
    def _deciding(self) -> frozenset[Severity]:
        return refused(self.request.policy)


def _grave(code: str, claim: str) -> Grave:
    return Grave(code, "pair", claim, CODES[code].severity)


def _skipped(why: str | None) -> str | None:
    return None if why is None else f"skipped: {why}"


def _bare(hidden_size: int) -> MemoryShape:
    """A model of which nothing but the width is asked."""
    return MemoryShape(
        side="a",
        model_type="",
        weight_bytes=0,
        hidden_size=hidden_size,
        num_layers=0,
        num_heads=0,
        num_kv_heads=0,
        head_dim=0,
        intermediate_size=0,
        vocab_size=0,
    )
