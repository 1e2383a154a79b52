"""What is new since a baseline, in lines: for a terminal, a markdown report, a JUnit case, an annotation."""

from __future__ import annotations

from collections.abc import Iterator

from wirecheck.baseline import NEWS, RowSince, Since, State, heard
from wirecheck.gate_records import GateResult
from wirecheck.gate_troubles import Trouble
from wirecheck.views.words import plural

GRAVE = ("refuses", "warns")
"""What is told one by one; the rest is counted."""


def headline(found: GateResult, since: Since) -> str:
    """How many troubles are new and how many were known, in one sentence."""
    told = heard(found, since)
    grave = [state for one, state in told if one.weight in GRAVE]
    new, worse = grave.count("new"), grave.count("worse")
    known = len(grave) - new - worse
    gone = sum(one.weight in GRAVE for row in since.rows for one in row.gone)
    parts = [f"{new} new", *([f"{worse} worse"] if worse else []), f"{known} known"]
    unasked = sum(one.weight in GRAVE for row in since.rows for one in row.unasked)
    parts += [f"{gone} no longer found"] if gone else []
    parts += [f"{unasked} not asked again"] if unasked else []
    finished = "" if since.then.status == "finished" else f" (which was {since.then.status}, not finished)"
    return f"Since {since.file}{finished}, of what blocks or warns: {', '.join(parts)}."


def lines(found: GateResult, since: Since) -> tuple[str, ...]:
    """The headline, and a line for all that is new."""
    return (headline(found, since), *_details(found, since))


def _details(found: GateResult, since: Since) -> Iterator[str]:
    told = heard(found, since)
    yield from (_changed(row) for row in since.rows if row.before != row.now)
    for one, state in told:
        if state in NEWS and one.weight in GRAVE:
            yield _told(one, state)
    notes = sum(state in NEWS and one.weight == "note" for one, state in told)
    if notes:
        yield f"and {plural(notes, 'note')}, new or worse"
    blocking = sum(state not in NEWS and one.weight == "refuses" for one, state in told)
    if blocking:
        yield f"{plural(blocking, 'known trouble')} that {'keeps' if blocking == 1 else 'keep'} the gate from passing"
    yield from (f"no longer asked: {name}" for name in since.dropped)


def _changed(row: RowSince) -> str:
    if row.before is None:
        return f"{row.name}: not in the baseline, {_words(row.now)} now"
    return f"{row.name}: {_words(row.before)} then, {_words(row.now)} now"


def _words(outcome: str) -> str:
    return outcome.replace("-", " ")


def _told(one: Trouble, state: State) -> str:
    where = one.row if one.on == one.row else f"{one.on} in {one.row}"
    return f"{state}: {one.code} on {where}: {one.claim}"
