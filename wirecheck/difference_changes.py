"""One result against another: the probes, findings, facts and figures of memory that are not as they were."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from wirecheck.difference_grounds import NOTHING, Grounds, place, reason
from wirecheck.difference_records import (
    Ended,
    FactChange,
    FactTold,
    FigureChange,
    FigureOf,
    FindingChange,
    MemoryDifference,
    RunChange,
    Told,
    Unit,
)
from wirecheck.record import same
from wirecheck.schema import Finding, MemoryEstimate, PairResult, ProbeRun, Scalar, Subject

T = TypeVar("T")
_FIGURE = re.compile(r"\d[\d.,]*")


def paired(
    old: Iterable[T], new: Iterable[T], key: Callable[[T], Hashable]
) -> Iterator[tuple[T, T] | tuple[T, None] | tuple[None, T]]:
    """Each of the old with the new of its key, the n-th of a key with the n-th; then what is only in the new."""
    waiting: dict[Hashable, list[T]] = {}
    for one in new:
        waiting.setdefault(key(one), []).append(one)
    for one in old:
        held = waiting.get(key(one))
        yield (one, held.pop(0)) if held else (one, None)
    for held in waiting.values():
        for one in held:
            yield None, one


def runs(grounds: Grounds) -> Iterator[RunChange]:
    """The probes that ended otherwise, or for another reason."""
    for old, new in paired(grounds.old.runs, grounds.new.runs, lambda run: (run.probe, run.subject)):
        one, was, now = old or new, _ended(old), _ended(new)
        assert one is not None
        if was != now:
            why = grounds.why(one.subject)
            yield RunChange(probe=one.probe, subject=one.subject, old=was, new=now, why=why)


def _ended(run: ProbeRun | None) -> Ended | None:
    return None if run is None else Ended(kind=run.kind, reason=reason(run))


@dataclass(frozen=True)
class _Claim:
    """A finding and the probe that made it."""

    probe: str
    finding: Finding


def findings(grounds: Grounds) -> Iterator[FindingChange]:
    """The findings that are new, gone, or of another severity, rung or claim."""
    old, new = _by_code(grounds.old), _by_code(grounds.new)
    for key in dict.fromkeys((*old, *new)):
        for was, now in _matched(old.get(key, []), new.get(key, [])):
            before, after = _told(was), _told(now)
            if _short(before) == _short(after):
                continue
            one = now or was
            assert one is not None
            why = grounds.why(
                one.finding.subject,
                one.probe,
                before=before.sources if before else (),
                after=after.sources if after else (),
            )
            finding = one.finding
            told = {"probe": one.probe, "subject": finding.subject, "code": finding.code, "name": finding.name}
            yield FindingChange(**told, old=before, new=after, why=why)


def _by_code(result: PairResult) -> dict[tuple[str, Subject, str], list[_Claim]]:
    found: dict[tuple[str, Subject, str], list[_Claim]] = {}
    for run in result.runs:
        for finding in run.findings:
            found.setdefault((run.probe, finding.subject, finding.code), []).append(_Claim(run.probe, finding))
    return found


def _told(claim: _Claim | None) -> Told | None:
    if claim is None:
        return None
    finding = claim.finding
    sources = tuple(evidence.source for evidence in finding.evidence)
    return Told(severity=finding.severity, level=finding.level, claim=finding.claim, sources=sources)


def _short(told: Told | None) -> tuple[Scalar, ...] | None:
    return None if told is None else (told.severity, told.level, told.claim)


_LIKENESS: tuple[Callable[[_Claim], Hashable], ...] = (
    lambda claim: (claim.finding.severity, claim.finding.level, claim.finding.claim),
    lambda claim: claim.finding.claim,
    lambda claim: _FIGURE.sub("#", claim.finding.claim),
    lambda claim: tuple(_FIGURE.sub("#", place(evidence.source)) for evidence in claim.finding.evidence),
)
"""How two claims of one code are taken for the same one, the surest first: but for figures, by the same sources."""


def _matched(old: list[_Claim], new: list[_Claim]) -> Iterator[tuple[_Claim | None, _Claim | None]]:
    """The claims of one code, each with its like; what is left is gone or new, unless it is one on either side."""
    for likeness in _LIKENESS:
        left_old, left_new = [], []
        for was, now in paired(old, new, likeness):
            if was is None or now is None:
                left_old += [] if was is None else [was]
                left_new += [] if now is None else [now]
            else:
                yield was, now
        old, new = left_old, left_new
    if len(old) == len(new) == 1:
        yield old[0], new[0]
        return
    yield from ((was, None) for was in old)
    yield from ((None, now) for now in new)


def facts(grounds: Grounds) -> Iterator[FactChange]:
    """The strongest fact of each name; where that is as it was, those of single probes that are not."""
    old, new = _by_key(grounds.old), _by_key(grounds.new)
    for subject, key in dict.fromkeys((*old, *new)):
        was, now = old.get((subject, key), {}), new.get((subject, key), {})
        before, after = _strongest(was), _strongest(now)
        if before is None or after is None or before.level != after.level or not same(before.value, after.value):
            yield _fact_change(grounds, subject, key, before, after)
            continue
        for probe in was:
            if probe in now and not same(was[probe].value, now[probe].value):
                yield _fact_change(grounds, subject, key, was[probe], now[probe])


def _by_key(result: PairResult) -> dict[tuple[Subject, str], dict[str, FactTold]]:
    """Subject and name -> probe -> what it established."""
    found: dict[tuple[Subject, str], dict[str, FactTold]] = {}
    for run in result.runs:
        for fact in run.facts:
            told = FactTold(value=fact.value, level=fact.level, source=fact.source, probe=run.probe)
            found.setdefault((fact.subject, fact.key), {}).setdefault(run.probe, told)
    return found


def _strongest(told: Mapping[str, FactTold]) -> FactTold | None:
    return max(told.values(), key=lambda fact: fact.level.rank, default=None)


def _fact_change(
    grounds: Grounds, subject: Subject, key: str, old: FactTold | None, new: FactTold | None
) -> FactChange:
    one = new or old
    assert one is not None
    before, after = ([] if fact is None else [fact.source] for fact in (old, new))
    why = grounds.why(subject, one.probe, before=before, after=after)
    if old is not None and new is not None and place(old.source) != place(new.source):
        moved = f"read from {new.source}, before from {old.source}"
        why = (moved, *(line for line in why if line != NOTHING))
    return FactChange(subject=subject, key=key, old=old, new=new, why=why)


def memory(grounds: Grounds) -> MemoryDifference | None:
    """The figures that are not as they were: totals, then parts by how much they differ, then what GPUs hold."""
    old, new = grounds.old.memory, grounds.new.memory
    was, now = _figures(old), _figures(new)
    figures = [
        FigureChange(of=key[0], name=key[1], unit=(now.get(key) or was[key])[0], old=before, new=after)
        for key in dict.fromkeys((*was, *now))
        if not same(before := was.get(key, _NONE)[1], after := now.get(key, _NONE)[1])
    ]
    figures.sort(key=lambda one: (_ORDER.index(one.of), -abs(one.more or 0) if one.of == "part" else 0))
    assumed = [() if estimate is None else estimate.assumptions for estimate in (old, new)]
    gone = tuple(line for line in assumed[0] if line not in assumed[1])
    fresh = tuple(line for line in assumed[1] if line not in assumed[0])
    if not figures and not gone and not fresh:
        return None
    why = grounds.why("pair")
    return MemoryDifference(figures=tuple(figures), no_longer_assumed=gone, now_assumed=fresh, why=why)


_ORDER: tuple[FigureOf, ...] = ("total", "part", "gpu")
_NONE: tuple[Unit, Scalar] = ("word", None)


def _figures(memory: MemoryEstimate | None) -> dict[tuple[FigureOf, str], tuple[Unit, Scalar]]:
    """What it is of, and its name -> unit and value; parts of one name together."""
    if memory is None:
        return {}
    found: dict[tuple[FigureOf, str], tuple[Unit, Scalar]] = {
        ("total", "allocated at the peak"): ("bytes", memory.allocated_bytes),
        ("total", "held by the allocator"): ("bytes", memory.reserved_bytes),
        ("total", "held by the process"): ("bytes", memory.process_bytes),
        ("total", "stated uncertainty"): ("share", memory.margin),
        ("total", "method"): ("word", memory.method),
        ("total", "rung"): ("word", memory.level),
    }
    parts: dict[str, int] = {}
    for part in memory.parts:
        parts[part.name] = parts.get(part.name, 0) + part.bytes
    found |= {("part", name): ("bytes", count) for name, count in parts.items()}
    for fit in memory.fits:
        found["gpu", f"{fit.gpu} x{fit.count}"] = ("word", fit.outcome)
        found["gpu", f"left over on {fit.gpu} x{fit.count}"] = ("bytes", fit.free_bytes)
    return found
