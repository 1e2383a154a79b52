"""The gate: every pair that a file names, checked; what is unchanged is not run again. Prints nothing.

It fails closed. A model that cannot be read, a pair that no time was left for, a file that names nothing: none of them
is compatible. Nothing that was skipped for want of something, or that crashed, is taken from an earlier check.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import combinations
from typing import Any, Literal, Protocol

from wirecheck.deadline import within
from wirecheck.errors import CouldNotCheck, Interrupted
from wirecheck.gate_records import OUTCOMES, GateAcceptance, GateModel, GateResult, GateRow
from wirecheck.gate_shelf import Shelf
from wirecheck.lock import digest_of, locked_side, pins
from wirecheck.lock_records import Lock
from wirecheck.runner import Check, Progress, Request
from wirecheck.schema import Acceptance, Expectation, PairResult, Scalar, Severity, Subject
from wirecheck.snapshot import Snapshot
from wirecheck.supervision import supervised


@dataclass(frozen=True)
class Accepted:
    """An acceptance as the file has it: on a model by its name, or on a pair as `a+b`."""

    code: str
    on: str
    reason: str
    until: date

    def subject(self, a: str, b: str | None) -> Subject | None:
        """Whom it speaks of in the check of that pair; None where of none."""
        named: dict[str, Subject] = {a: "a"} if b is None else {a: "a", b: "b", f"{a}+{b}": "pair"}
        return named.get(self.on)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the file says, beside which models to read."""

    file: str
    pairs: tuple[tuple[str, str | None], ...]
    request: Request
    """What every pair is asked, without what is expected and accepted."""
    expect: Mapping[str, Mapping[str, Scalar]]
    """Model's name -> facts that must be so."""
    accepted: tuple[Accepted, ...] = ()
    lock: Lock | None = None
    """What alone may be read."""
    asked_as_locked: bool | None = None
    """Whether the file asks what it asked when it was locked; None without a lock."""
    limit_s: float | None = None
    """No pair is begun later than that many seconds after the start."""
    today: date = field(default_factory=lambda: datetime.now(tz=UTC).date())


class Watch(Progress, Protocol):
    """Told what happens while it happens."""

    def note(self, words: str) -> None:
        """What is under way."""

    def row(self, row: GateRow) -> None:
        """A pair is done with."""


@dataclass
class Gate:
    """One run of the gate, and how far it has come."""

    rules: Rules
    read: Mapping[str, Callable[[], Snapshot]]
    """Model's name -> what reads it. Raises CouldNotCheck's children."""
    watch: Watch
    shelf: Shelf
    models: dict[str, GateModel] = field(default_factory=dict)
    rows: list[GateRow] = field(default_factory=list)
    used: set[Accepted] = field(default_factory=set)
    begin: float = field(default_factory=time.perf_counter)

    def run(self) -> GateResult:
        """Every pair. Raises Interrupted with the rows so far."""
        try:
            with within(self.rules.limit_s):
                snapshots = {name: self._take(name) for name in self.read}
            for a, b in self.rules.pairs:
                begun = time.perf_counter()
                row = self._row(a, b, snapshots).model_copy(update={"seconds": round(time.perf_counter() - begun, 3)})
                self.rows.append(row)
                self.watch.row(row)
        except (KeyboardInterrupt, Interrupted):
            raise Interrupted(self.result("interrupted")) from None
        return self.result("finished")

    def result(self, status: Literal["started", "finished", "interrupted"]) -> GateResult:
        """The record as it stands."""
        return GateResult(
            status=status,
            file=self.rules.file,
            command=self.rules.request.command,
            asked_as_locked=self.rules.asked_as_locked,
            models=tuple(self.models.values()),
            rows=tuple(self.rows),
            accepted=tuple(self._told(one) for one in self.rules.accepted),
            seconds=round(time.perf_counter() - self.begin, 1),
        )

    def _told(self, one: Accepted) -> GateAcceptance:
        state: Literal["used", "unused", "expired"] = "used" if one in self.used else "unused"
        if one.until < self.rules.today:
            state = "expired"
        return GateAcceptance(code=one.code, on=one.on, reason=one.reason, until=one.until, state=state)

    def _take(self, name: str) -> Snapshot | None:
        self.watch.note(f"reading {name} …")
        try:
            found = self.read[name]()
        except CouldNotCheck as error:
            self.models[name] = GateModel(name=name, ref=name, why=error.message, next_step=error.next_step)
            return None
        self.models[name] = GateModel(name=name, ref=found.ref.text, commit=found.commit)
        return found

    def _row(self, a: str, b: str | None, snapshots: Mapping[str, Snapshot | None]) -> GateRow:
        names = [a] if b is None else [a, b]
        lost = tuple(f"{name}: {self.models[name].why}" for name in names if snapshots[name] is None)
        if lost:
            return GateRow(a=a, b=b, outcome="could-not-check", why=lost)
        limit = self.rules.limit_s
        if limit is not None and time.perf_counter() - self.begin > limit:
            return GateRow(a=a, b=b, outcome="not-run", why=(f"the gate's time was over ({limit / 60:g} minutes)",))
        try:
            result, kept = self._checked(a, b, snapshots)
        except CouldNotCheck as error:  # of this machine: there is nowhere to run the probes in
            return GateRow(a=a, b=b, outcome="could-not-check", why=(error.message,))
        then = self.rules.lock.result(a, b) if self.rules.lock else None
        return GateRow(
            a=a,
            b=b,
            outcome=OUTCOMES[result.verdict.outcome],
            why=result.verdict.because,
            result=result,
            kept=kept,
            as_locked=None if then is None else then.digest == digest_of(result),
        )

    def _checked(self, a: str, b: str | None, snapshots: Mapping[str, Snapshot | None]) -> tuple[PairResult, bool]:
        first, second = snapshots[a], None if b is None else snapshots[b]
        assert first is not None
        request = self._request(a, b)
        check = Check(request, first, second, self.watch)
        kept = self.shelf.whole(check)
        if kept is not None:
            check.runs, check.memory = list(kept.runs), kept.memory
            result = check.result("finished")
        else:
            result = supervised(replace(check, known=self.shelf.models(check)))
            self.shelf.keep(check, result)
        self._note_used(a, b, result)
        return result, kept is not None

    def _request(self, a: str, b: str | None) -> Request:
        """What that pair is asked: its own expectations, and the acceptances that still hold."""
        rules = self.rules
        sides: dict[Literal["a", "b"], str] = {"a": a} if b is None else {"a": a, "b": b}
        expectations = tuple(
            Expectation(subject=side, key=key, value=value)
            for side, name in sides.items()
            for key, value in rules.expect.get(name, {}).items()
        )
        accepted = tuple(
            Acceptance(code=one.code, subject=subject, reason=one.reason, until=one.until)
            for one in rules.accepted
            if one.until >= rules.today and (subject := one.subject(a, b)) is not None
        )
        asked = {"expectations": expectations, "accepted": accepted, "fixed_revisions": True}
        policy = rules.request.policy.model_copy(update=asked | self._locked(sides))
        return replace(rules.request, policy=policy)

    def _locked(self, sides: Mapping[Literal["a", "b"], str]) -> dict[str, Any]:
        """What the lock asks of a pair's check."""
        lock = self.rules.lock
        if lock is None:
            return {}
        models = {side: model for side, name in sides.items() if (model := lock.model(name)) is not None}
        return {
            "pins": tuple(pin for side, model in models.items() for pin in pins(model, side)),
            "locked": tuple(locked_side(model, side) for side, model in models.items()),
            "versions": lock.versions,
        }

    def _note_used(self, a: str, b: str | None, result: PairResult) -> None:
        grave = (Severity.BLOCK, Severity.WARN)
        found = {(f.code, f.subject) for f in result.findings if f.severity in grave}
        self.used |= {one for one in self.rules.accepted if (one.code, one.subject(a, b)) in found}


def all_pairs(names: Sequence[str]) -> tuple[tuple[str, str | None], ...]:
    """Every pair of the models, in the order they are named; one model alone is checked alone."""
    if len(names) == 1:
        return ((names[0], None),)
    return tuple(combinations(names, 2))
