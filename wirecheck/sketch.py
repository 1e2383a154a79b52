"""What is kept of one model so that very many pairs of it can be judged: all that the pair's questions read of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench
from wirecheck.probes.memory_shape import memory_shape
from wirecheck.probes.pairing import LAYOUT, PAIRING, sample_lengths
from wirecheck.runner import Check, moot, pair_probes, unmet
from wirecheck.schema import Fact, Level, ProbeRun, Record, Severity, Subject, strongest
from wirecheck.verdict import Expected, Grave, Standing, standing
from wirecheck.vram.formula import MemoryShape

SHOWN = ("model_type", "hidden_size", "vocab_size", "num_parameters")
"""Facts that a table shows of a model."""


class OpenQuestion(Record):
    """A question about the model that is not settled."""

    probe: str
    level: Level
    why: str


class GraveFinding(Record):
    """A block or a warning."""

    code: str
    claim: str
    severity: Severity


class SketchSide(Record):
    """The model as it stands on one side of a pair: its sentences name that side."""

    open: tuple[OpenQuestion, ...]
    grave: tuple[GraveFinding, ...]
    unmet: dict[str, str]
    """Probe of a pair -> which of the model's own probes it needs that did not run."""
    moot: dict[str, str]
    """Probe of a pair -> the block that leaves it nothing to ask."""
    no_shape: str | None
    """Why its memory cannot be told by formula."""

    def standing(self, subject: Subject, levels: Sequence[Level]) -> Standing:
        """What its runs come to, for the verdict."""
        return Standing(
            levels=frozenset(levels),
            gaps=tuple((Expected(one.probe, subject, one.level), one.why) for one in self.open),
            grave=frozenset(Grave(one.code, subject, one.claim, one.severity) for one in self.grave),
        )


class Sketch(Record):
    """One model, probed."""

    a: SketchSide
    b: SketchSide
    levels: tuple[Level, ...]
    """Rungs of its questions."""
    warnings: int
    shown: dict[str, Any]
    """The facts that a table shows."""
    hidden_size: int | None
    num_layers: int | None
    has_layout: bool
    """Whether anything is known of layers and heads."""
    is_counted: bool
    """Whether its tensors were read from files."""
    shape: MemoryShape | None
    """As side a; None where sizes are missing or `no_shape` says why."""
    missing: tuple[str, ...] = ()
    """Sizes that nothing establishes."""
    lengths: tuple[int, ...] | None = None
    """Tokens of each text of the sample; None where the tokenizer was not asked, or does not load."""
    vocabulary: str | None = None
    """Digest of its vocabulary's fingerprints."""


def sketch(
    check: Check, bench: ModelBench, runs: Mapping[Subject, Sequence[ProbeRun]], vocabulary: str | None
) -> Sketch:
    """Of model `a` of a check whose probes have run, `runs` being theirs as each side has them."""
    facts, facts_b = ([fact for run in runs[side] for fact in run.facts] for side in ("a", "b"))
    values = {key: _value(facts, key) for key in {*SHOWN, "hidden_size", "num_layers", *(key for key, _ in LAYOUT)}}
    shape, missing, _ = _shape(bench)
    return Sketch(
        a=_side(check, bench, "a", runs["a"]),
        b=_side(check, replace(bench, side="b", facts=tuple(facts_b)), "b", runs["b"]),
        levels=tuple(dict.fromkeys(one.level for one in check.expected if one.subject == "a")),
        warnings=sum(one.severity is Severity.WARN for run in runs["a"] for one in run.findings),
        shown={key: values[key] for key in SHOWN if values[key] is not None},
        hidden_size=_size(values["hidden_size"]),
        num_layers=_size(values["num_layers"]),
        has_layout=any(values[key] is not None for key, _ in LAYOUT),
        is_counted=bool(bench.snapshot.tensors),
        shape=shape,
        missing=missing,
        lengths=None if vocabulary is None else sample_lengths(bench.tokenizer),
        vocabulary=vocabulary,
    )


def texts_of(bench: ModelBench, runs: Sequence[ProbeRun]) -> Iterable[bytes] | None:
    """What its tokens stand for, where a pair of it is asked to compare them and they can be had; else None."""
    if unmet(PAIRING, runs) or moot(PAIRING, runs):
        return None
    try:
        return bench.spelt
    except Exception:  # noqa: BLE001 - the pair's own probe tries again, and its crash or reason is kept
        return None


def _side(check: Check, bench: ModelBench, side: Subject, runs: Sequence[ProbeRun]) -> SketchSide:
    stands = standing(runs, [one for one in check.expected if one.subject == side])
    probes = pair_probes(check.request)
    return SketchSide(
        open=tuple(OpenQuestion(probe=one.probe, level=one.level, why=why) for one, why in stands.gaps),
        grave=tuple(
            GraveFinding(code=one.code, claim=one.claim, severity=one.severity) for one in sorted(stands.grave)
        ),
        unmet={probe.name: why for probe in probes if (why := unmet(probe, runs))},
        moot={probe.name: why for probe in probes if (why := moot(probe, runs))},
        no_shape=_shape(bench)[2],
    )


def _shape(bench: ModelBench) -> tuple[MemoryShape | None, tuple[str, ...], str | None]:
    """The shape, the sizes that are missing, or why neither can be told."""
    try:
        found = memory_shape(bench, bench)
    except CannotRun as missing:
        return None, (), missing.reason
    return (found, (), None) if isinstance(found, MemoryShape) else (None, found, None)


def _value(facts: Sequence[Fact], key: str) -> Any:
    found = strongest(facts, "a", key)
    return None if found is None else found.value


def _size(value: object) -> int | None:
    return value if type(value) is int else None
