"""What changed between two results of the same kind: a pure function of both; nothing is read or run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wirecheck.difference_changes import facts, findings, memory, paired, runs
from wirecheck.difference_grounds import Grounds
from wirecheck.difference_records import (
    Cause,
    Difference,
    Kind,
    RowDifference,
    Standing,
    Whole,
)
from wirecheck.gate_records import OUTCOMES, GateResult, GateRow
from wirecheck.schema import PairResult


def kind_of(result: PairResult | GateResult) -> Kind:
    """Of a pair, of one model, or of a gate: only two of a kind can be compared."""
    if isinstance(result, GateResult):
        return "gate"
    return "model" if result.b is None else "pair"


def compare(
    old: PairResult | GateResult, new: PairResult | GateResult, files: tuple[str, str] = ("old", "new")
) -> Difference:
    """What changed from `old` to `new`, `files` being their names. Raises ValueError where they are not of a kind.

    Seconds, tracebacks, what was observed under an unchanged claim, and whether a gate ran a row anew, are no changes.
    """
    kind = kind_of(new)
    if kind_of(old) != kind:
        raise ValueError(f"one is of a {kind_of(old)}, the other of a {kind}")
    matched = list(paired(_rows(old), _rows(new), lambda row: row.name if kind == "gate" else None))
    rows = [_row(was, now) for was, now in matched]
    return Difference(
        kind=kind,
        old=_whole(old, files[0]),
        new=_whole(new, files[1]),
        causes=_causes(old, new, matched),
        rows=tuple(row for row in rows if row is not None),
        same=tuple(_name(*two) for two, row in zip(matched, rows, strict=True) if row is None),
    )


@dataclass(frozen=True)
class _Row:
    """A check in one result."""

    name: str
    a: str
    b: str | None
    standing: Standing
    result: PairResult | None


def _rows(of: PairResult | GateResult) -> list[_Row]:
    if isinstance(of, GateResult):
        return [_Row(row.name, row.a, row.b, _standing(row), row.result) for row in of.rows]
    name = of.a.name if of.b is None else f"{of.a.name} + {of.b.name}"
    return [_Row(name, "a", None if of.b is None else "b", _standing(of), of)]


def _standing(of: PairResult | GateRow) -> Standing:
    result = of if isinstance(of, PairResult) else of.result
    if result is None:
        assert isinstance(of, GateRow)
        return Standing(outcome=of.outcome, status=None, strength=None, because=of.why)
    verdict = result.verdict
    outcome = OUTCOMES[verdict.outcome] if isinstance(of, PairResult) else of.outcome
    return Standing(outcome=outcome, status=result.status, strength=verdict.strength, because=verdict.because)


def _whole(result: PairResult | GateResult, file: str) -> Whole:
    outcome = result.outcome if isinstance(result, GateResult) else OUTCOMES[result.verdict.outcome]
    return Whole(file=file, command=result.command, status=result.status, outcome=outcome)


def _row(old: _Row | None, new: _Row | None) -> RowDifference | None:
    """What the two do not have in common; None where nothing."""
    one = old if new is None else new
    assert one is not None
    standings = (None if old is None else old.standing, None if new is None else new.standing)
    changes = _changes(old, new)
    if standings[0] == standings[1] and not any(changes.values()):
        return None
    is_compared = bool(changes)
    return RowDifference(
        name=_name(old, new), a=one.a, b=one.b, old=standings[0], new=standings[1], is_compared=is_compared, **changes
    )


def _name(old: _Row | None, new: _Row | None) -> str:
    """The new one's name; with the old one's where that is another: two checks of other models were compared."""
    names = [one.name for one in (new, old) if one is not None]
    return names[0] if names[0] == names[-1] else f"{names[0]} (before: {names[1]})"


def _changes(old: _Row | None, new: _Row | None) -> dict[str, Any]:
    """The fields of what changed inside; empty where one of the two has no result."""
    if old is None or new is None or old.result is None or new.result is None:
        return {}
    grounds = _grounds(new, old.result, new.result)
    return {
        "runs": tuple(runs(grounds)),
        "findings": tuple(findings(grounds)),
        "facts": tuple(facts(grounds)),
        "memory": memory(grounds),
    }


def _grounds(row: _Row, old: PairResult, new: PairResult) -> Grounds:
    return Grounds(old, new, row.a, row.b or "b")


def _causes(
    old: PairResult | GateResult, new: PairResult | GateResult, matched: Sequence[tuple[_Row | None, _Row | None]]
) -> tuple[Cause, ...]:
    """Those of every row, each once; in a gate with the rows it is told of, and what else its file says otherwise."""
    found: dict[Cause, list[str]] = {}
    names = []
    for was, now in matched:
        if was is not None and now is not None and was.result is not None and now.result is not None:
            names.append(now.name)
            for cause in _grounds(now, was.result, now.result).causes:
                found.setdefault(cause, []).append(now.name)
    if isinstance(old, GateResult) and isinstance(new, GateResult):
        found |= {cause: found.get(cause, names) for cause in _of_gates(old, new)}
    ordered = sorted(found, key=lambda cause: ("read", "asked", "installed").index(cause.of))
    return tuple(
        cause if found[cause] == names else cause.model_copy(update={"rows": tuple(dict.fromkeys(found[cause]))})
        for cause in ordered
    )


def _of_gates(old: GateResult, new: GateResult) -> Iterator[Cause]:
    """The commits of their models, and what became of their acceptances."""
    commits = [{model.name: model.commit for model in gate.models} for gate in (old, new)]
    for name in dict.fromkeys((*commits[0], *commits[1])):
        was, now = (held.get(name) for held in commits)
        if was != now:
            yield Cause(of="read", key=f"{name}.commit", old=was, new=now)
    states = [{f"acceptance of {a.code} on {a.on} until {a.until}": a.state for a in g.accepted} for g in (old, new)]
    for key in dict.fromkeys((*states[0], *states[1])):
        before, after = (held.get(key) for held in states)
        if before != after:
            yield Cause(of="asked", key=key, old=before, new=after)
