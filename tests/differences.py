"""Builders of two results that differ in one thing, for the tests of `wirecheck diff`."""

from __future__ import annotations

from typing import Any

from tests.factories import COMMITS, finding, pair_result, pair_runs, seen
from wirecheck.cli_diff import shown
from wirecheck.difference import compare
from wirecheck.difference_records import Difference, RowDifference
from wirecheck.gate_records import GateResult, GateRow
from wirecheck.schema import (
    Fact,
    Level,
    MemoryEstimate,
    Outcome,
    PairResult,
    Verdict,
)

OLD = pair_result()
A, B = COMMITS[0][:12], COMMITS[1][:12]
OTHER = "f" * 40


def with_runs(*changed: Any, drop: tuple[str, ...] = (), **more: Any) -> PairResult:
    """OLD with those runs in the place of those of their probe, or without the dropped ones."""
    new = {run.probe: run for run in changed}
    runs = [new.pop(run.probe, run) for run in pair_runs() if run.probe not in drop]
    return pair_result(runs=(*runs, *new.values()), verdict=OLD.verdict, **more)


def run_of(probe: str) -> Any:
    return next(run for run in pair_runs() if run.probe == probe)


def edited(record: Any, **changes: Any) -> Any:
    """The record with other fields, validated."""
    return type(record).model_validate(record.model_dump(exclude_computed_fields=True) | changes)


def with_finding(probe: str, **changes: Any) -> PairResult:
    """OLD with the one finding of that probe changed."""
    run = run_of(probe)
    return with_runs(edited(run, findings=[edited(run.findings[0], **changes).model_dump()]))


def only_row(difference: Difference) -> RowDifference:
    (row,) = difference.rows
    return row


def changes_of(new: PairResult, old: PairResult = OLD) -> RowDifference:
    return only_row(compare(old, new))


def flat(difference: Difference) -> str:
    """What a terminal shows, whatever its width."""
    return " ".join(shown(difference).split())


def crashed(**error: Any) -> PairResult:
    return with_runs(edited(run_of("wire"), error=run_of("wire").error.model_dump() | error))


def fact(value: Any, key: str = "hidden_size", level: Level = Level.INSPECTED, source: str | None = None) -> Fact:
    return Fact(key=key, subject="a", value=value, level=level, source=source or f"config.json@{A}#{key}")


def with_facts(*facts: Fact, probe: str = "config") -> PairResult:
    return with_runs(edited(run_of(probe), facts=[one.model_dump() for one in facts]))


def memory(**changes: Any) -> PairResult:
    return pair_result(memory=MemoryEstimate.model_validate(OLD.memory.model_dump(mode="json") | changes))


def otherwise(source: str, subject: str = "b", **more: Any) -> PairResult:
    """OLD with the tokenizer's finding on model b claimed otherwise, from that source."""
    run = run_of("tokenizer")
    made = finding("TOK05", "ok", subject, "It has one.", seen(source, "<pad>"))
    facts = more.pop("facts", ())
    return with_runs(edited(run, findings=[made.model_dump()], facts=[one.model_dump() for one in facts]), **more)


def judged(outcome: str, status: str = "finished") -> PairResult:
    because = ("so it is",)
    strength = Level.SIMULATED if outcome == "compatible" else None
    return pair_result(verdict=Verdict(outcome=Outcome(outcome), strength=strength, because=because), status=status)


COMPATIBLE, UNPROVEN, BAD = judged("compatible"), judged("unproven"), judged("incompatible")


def gate_row(name: str, result: PairResult | None, outcome: str | None = None, **more: Any) -> GateRow:
    a, _, b = name.partition(" + ")
    why = result.verdict.because if result else ("not there",)
    made = outcome or (str(result.verdict.outcome) if result else "could-not-check")
    return GateRow(a=a, b=b or None, outcome=made, why=why, result=result, **more)


def gate(*rows: GateRow, **more: Any) -> GateResult:
    fields = {"status": "finished", "file": "w.toml", "command": "wirecheck gate w.toml", "rows": rows} | more
    return GateResult(**fields)
