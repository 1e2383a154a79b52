"""What a gate found against what an earlier gate found: new, worse, known, gone. Pure; it excuses nothing.

A trouble is the same one in both where pair, model (its name in the file, and what stands behind it), code and probe
are the same, and its claim differs in figures at most: where that is in doubt, it is new. A known block still blocks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from wirecheck.gate_records import GateAcceptance, GateOutcome, GateResult, GateRow
from wirecheck.gate_troubles import WEIGHTS, Trouble, troubles
from wirecheck.schema import PairResult, Ran

State = Literal["new", "worse", "updated", "unchanged"]
"""`worse`: it was there, and weighs more now; `updated`: its claim has other figures, or it weighs less."""
NEWS: tuple[State, ...] = ("new", "worse")


@dataclass(frozen=True)
class RowSince:
    """One row against the row of that name in the baseline."""

    name: str
    before: GateOutcome | None
    """None: the baseline has no such row."""
    now: GateOutcome
    states: tuple[State, ...]
    """Of each trouble, in their order."""
    gone: tuple[Trouble, ...] = ()
    """Findings of the baseline, sound ones left out, whose probe ran again, and that are no longer found."""
    unasked: tuple[Trouble, ...] = ()
    """Those whose probe did not run again to its end: nothing is known of them now."""
    then: PairResult | None = None
    """The baseline's result of the row."""
    num_findings: int = 0
    """How many of the troubles are findings: they come first."""

    @property
    def finding_states(self) -> tuple[State, ...]:
        """Of each finding, in the order of the row's result."""
        return self.states[: self.num_findings]


@dataclass(frozen=True)
class Since:
    """A gate against its baseline."""

    file: str
    """Where the baseline was read."""
    then: GateResult
    rows: tuple[RowSince, ...]
    """In the order of the gate's rows."""
    dropped: tuple[str, ...]
    """Rows of the baseline that the gate does not have."""


def compare(found: GateResult, then: GateResult, file: str) -> Since:
    """`found` against `then`, which was read from `file`."""
    before = {row.name: row for row in then.rows}
    now = {row.name for row in found.rows}
    return Since(
        file=file,
        then=then,
        rows=tuple(_row(found, row, then, before.get(row.name)) for row in found.rows),
        dropped=tuple(name for name in before if name not in now),
    )


def heard(found: GateResult, since: Since | None) -> tuple[tuple[Trouble, State], ...]:
    """Every trouble of the gate with its state; without a baseline all of them are new."""
    if since is None:
        return tuple((one, "new") for row in found.rows for one in troubles(found, row))
    told: list[tuple[Trouble, State]] = []
    for row, compared in zip(found.rows, since.rows, strict=True):
        told += zip(troubles(found, row), compared.states, strict=True)
    return tuple(told)


def is_known(acceptance: GateAcceptance, since: Since | None) -> bool:
    """Whether the baseline said the same of that acceptance."""
    key = (acceptance.code, acceptance.on, acceptance.state)
    return since is not None and key in {(one.code, one.on, one.state) for one in since.then.accepted}


def _row(found: GateResult, row: GateRow, then: GateResult, before: GateRow | None) -> RowSince:
    own = troubles(found, row)
    findings = sum(one.finding is not None for one in own)
    if before is None:
        fresh: list[State] = ["new"] * len(own)
        return RowSince(row.name, None, row.outcome, tuple(fresh), num_findings=findings)
    states, left = _matched(own, troubles(then, before))
    told = [one for one in left if one.finding is not None and one.weight != "sound"]
    gone = tuple(one for one in told if _was_asked_again(one, row))
    unasked = tuple(one for one in told if not _was_asked_again(one, row))
    return RowSince(row.name, before.outcome, row.outcome, states, gone, unasked, before.result, findings)


def _matched(own: Sequence[Trouble], old: Sequence[Trouble]) -> tuple[tuple[State, ...], tuple[Trouble, ...]]:
    """The state of each of `own`, and those of `old` that none of them is.

    The same claim is matched first; then the heaviest with the heaviest, so that none is called worse without need.
    """
    left: dict[tuple[str, ...], list[Trouble]] = defaultdict(list)
    for one in sorted(old, key=_heaviest_first):
        left[(*one.identity, one.wording)].append(one)
    states: dict[int, State] = {}
    for same_claim in (True, False):
        for n, one in sorted(enumerate(own), key=lambda pair: _heaviest_first(pair[1])):
            known = left[(*one.identity, one.wording)]
            at = next((at for at, was in enumerate(known) if not same_claim or was.claim == one.claim), None)
            if n not in states and at is not None:
                states[n] = _state(one, known.pop(at))
    return tuple(states.get(n, "new") for n in range(len(own))), tuple(one for rest in left.values() for one in rest)


def _heaviest_first(one: Trouble) -> int:
    return -WEIGHTS.index(one.weight)


def _state(one: Trouble, was: Trouble) -> State:
    if WEIGHTS.index(one.weight) > WEIGHTS.index(was.weight):
        return "worse"
    return "unchanged" if (one.claim, one.weight) == (was.claim, was.weight) else "updated"


def _was_asked_again(was: Trouble, row: GateRow) -> bool:
    """Whether its probe ran to its end on the same subject."""
    if was.finding is None or row.result is None:
        return False
    place = (was.probe, was.finding.subject)
    return any(isinstance(run, Ran) and (run.probe, run.subject) == place for run in row.result.runs)
