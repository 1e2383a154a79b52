"""The records: frozen, strict, finite, and equal after a round trip."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.factories import pair_result
from wirecheck.schema import (
    Evidence,
    Fact,
    Finding,
    Level,
    MemoryEstimate,
    MemoryPart,
    PairResult,
    ProbeError,
    Severity,
)


def estimate(**changes) -> MemoryEstimate:
    fields = {
        "level": Level.INSPECTED,
        "method": "formula",
        "parts": (MemoryPart(name="weights a", bytes=3, how="h"), MemoryPart(name="weights b", bytes=4, how="h")),
        "assumptions": (),
        "margin": 0.1,
    }
    return MemoryEstimate(**(fields | changes))


def test_a_result_survives_its_file():
    result = pair_result()
    assert PairResult.model_validate_json(result.model_dump_json()) == result


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="extra"):
        Evidence(level=Level.DECLARED, source="s", observed=1, expcted=2)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_cannot_hold_is_refused(number):
    with pytest.raises(ValidationError):
        Evidence(level=Level.DECLARED, source="s", observed=number)


def test_a_finding_needs_evidence():
    with pytest.raises(ValidationError, match="evidence"):
        Finding(code="CFG01", name="n", severity=Severity.OK, subject="a", claim="c", evidence=())


@pytest.mark.parametrize("severity", [Severity.WARN, Severity.BLOCK])
def test_what_is_to_be_acted_on_says_how(severity):
    evidence = (Evidence(level=Level.INSPECTED, source="s", observed=1),)
    with pytest.raises(ValidationError, match="remedy"):
        Finding(code="CFG01", name="n", severity=severity, subject="a", claim="c", evidence=evidence)


def test_the_total_is_derived():
    assert estimate().allocated_bytes == 7
    assert estimate().model_dump()["allocated_bytes"] == 7


def test_a_total_that_is_not_the_sum_is_refused():
    with pytest.raises(ValidationError, match="allocated_bytes is 8, its parts make 7"):
        estimate(allocated_bytes=8)


def test_records_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        estimate().margin = 1.0


def test_of_equal_facts_the_strongest_speaks():
    result = pair_result()
    keys = {(fact.subject, fact.key) for run in result.runs for fact in run.facts}
    assert keys, "the factory gives facts"
    for subject, key in keys:
        ranks = [f.level.rank for r in result.runs for f in r.facts if (f.subject, f.key) == (subject, key)]
        assert result.fact(subject, key).level.rank == max(ranks)
    assert result.fact("a", "no such fact") is None


@pytest.mark.parametrize(
    "made",
    [
        lambda text: Evidence(level="inspected", source=text, observed=text, expected=text),
        lambda text: Fact(key="k", subject="a", value=text, level="inspected", source=text),
        lambda text: ProbeError(type="E", message=text, traceback=text),
    ],
)
def test_half_of_a_surrogate_pair_is_spelt_out(made):
    record = made("a\ud800")
    assert record == made("a\\ud800")
    assert type(record).model_validate_json(record.model_dump_json()) == record
