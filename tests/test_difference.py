"""What `wirecheck diff` takes for a change, and what for none: each kind where it fires and where it must not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.differences import (
    OLD,
    B,
    changes_of,
    crashed,
    edited,
    fact,
    memory,
    run_of,
    with_facts,
    with_finding,
    with_runs,
)
from tests.factories import finding, pair_result, pair_runs, seen
from tests.strategies import cases
from wirecheck.cli_diff import shown
from wirecheck.cli_output import to_json
from wirecheck.difference import compare
from wirecheck.difference_records import Difference
from wirecheck.schema import (
    Fit,
    Level,
    MemoryPart,
    Outcome,
    PairResult,
    Skipped,
    Verdict,
)
from wirecheck.verdict import judge
from wirecheck.views import difference as view

# --- nothing changed --------------------------------------------------------------------------------------------------


def test_a_result_does_not_differ_from_itself():
    found = compare(OLD, OLD)
    assert (found.is_empty, found.is_worse, found.same) == (True, False, ("org/alpha + org/beta",))
    assert view.NOTHING in shown(found)
    assert view.NOTHING in view.render(found)


def as_result(case: Any) -> PairResult:
    runs, questions, policy = case
    return pair_result(runs=tuple(runs), policy=policy, verdict=judge(runs, questions, policy))


@given(cases(), st.randoms())
def test_none_does_nor_from_itself_in_another_order_at_another_time(case, random):
    runs, questions, policy = case
    one = as_result(case)
    assert compare(one, one).is_empty
    moved = [run.model_copy(update={"seconds": 7.0}) for run in runs]
    random.shuffle(moved)
    assert compare(one, as_result((moved, questions, policy))).is_empty


@given(cases(), cases())
def test_the_other_way_round_new_is_gone(one, other):
    there, back = (compare(*map(as_result, two)) for two in ((one, other), (other, one)))
    for field in ("findings", "facts", "runs"):
        news = [sum(c.old is None for row in found.rows for c in getattr(row, field)) for found in (there, back)]
        gone = [sum(c.new is None for row in found.rows for c in getattr(row, field)) for found in (there, back)]
        assert news == gone[::-1]
    assert {c.key for c in there.causes} == {c.key for c in back.causes}
    assert there.is_empty == back.is_empty
    assert Difference.model_validate_json(to_json(there)) == there


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(with_runs(edited(run_of("config"), seconds=9.0)), id="seconds"),
        pytest.param(crashed(traceback="another"), id="a traceback"),
        pytest.param(with_finding("tokenizer", remedy="Do otherwise."), id="a remedy"),
        pytest.param(
            with_finding("embeds", evidence=[seen("twin, seed 0", 0.0201, level=Level.SIMULATED).model_dump()]),
            id="what was observed under the same claim",
        ),
        pytest.param(pair_result(command="wirecheck pair org/alpha org/beta --json x"), id="the command"),
        pytest.param(pair_result(runs=pair_runs()[::-1]), id="the order of runs"),
    ],
)
def test_what_is_no_change(new):
    assert compare(OLD, new).is_empty


# --- what changed -----------------------------------------------------------------------------------------------------


def test_a_new_finding_and_one_that_is_gone():
    new = with_runs(edited(run_of("embeds"), findings=[]))
    (gone,) = changes_of(new).findings
    assert (gone.code, gone.old.claim, gone.new) == ("EMB10", "The table's RMS is 0.02.", None)
    (fresh,) = changes_of(OLD, new).findings
    assert (fresh.old, fresh.new) == (None, gone.old)
    assert [view.View.severities(change) for change in (gone, fresh)] == ["gone note", "new note"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("severity", "note"),
        ("claim", "The tokenizer has no pad token at all."),
        ("evidence", [seen("tokenizer", 1, level=Level.EXECUTED).model_dump()]),
    ],
)
def test_a_finding_of_another_severity_claim_or_rung(field, value):
    (change,) = changes_of(with_finding("tokenizer", **{field: value})).findings
    assert (change.probe, change.subject, change.code) == ("tokenizer", "b", "TOK05")
    kept = {"severity", "claim", "level"} - {"level" if field == "evidence" else field}
    assert all(getattr(change.old, name) == getattr(change.new, name) for name in kept)
    assert change.old != change.new


def claims(*texts: str) -> PairResult:
    """OLD with these claims of one code by one probe."""
    made = [finding("WGT08", "ok", "b", text, seen(f"model.safetensors@{B}#{n}", 1)) for n, text in enumerate(texts)]
    return with_runs(edited(run_of("weights"), findings=[one.model_dump() for one in made]))


def of_claims(old: PairResult, new: PairResult) -> list[tuple[str | None, str | None]]:
    return [(c.old and c.old.claim, c.new and c.new.claim) for c in changes_of(new, old).findings]


def test_claims_of_one_code_are_matched_by_words_and_figures():
    old = claims("The embedding has 32,000 rows.", "The head has 32,000 rows.", "Both are read.")
    new = claims("Both are read.", "The head has 31,999 rows.", "The embedding has 32,000 rows.")
    assert of_claims(old, new) == [("The head has 32,000 rows.", "The head has 31,999 rows.")]


def test_the_same_words_come_before_the_same_place_or_figures():
    old = claims("The embedding has 32,000 rows.", "The head has 32,000 rows.")
    new = claims("The head has 31,999 rows.", "The embedding has 31,998 rows.")
    assert of_claims(old, new) == [
        ("The embedding has 32,000 rows.", "The embedding has 31,998 rows."),
        ("The head has 32,000 rows.", "The head has 31,999 rows."),
    ]
    noted = [edited(one, severity="note").model_dump() for one in claims("Row 2.", "Row 1.").runs[3].findings]
    graver = with_runs(edited(run_of("weights"), findings=noted))
    assert of_claims(claims("Row 1.", "Row 2."), graver) == [("Row 1.", "Row 1."), ("Row 2.", "Row 2.")]


def test_claims_of_one_code_are_matched_by_their_sources():
    old, new = claims("One holds.", "Two holds."), claims("One fell.", "Two fell.")
    assert of_claims(old, new) == [("One holds.", "One fell."), ("Two holds.", "Two fell.")]


def test_claims_that_nothing_joins_are_gone_and_new():
    assert of_claims(claims("One.", "Two.", "Three."), claims("Four.")) == [
        ("One.", "Four."), ("Two.", None), ("Three.", None),
    ]  # fmt: skip
    old, new = claims("Zero.", "One.", "Two."), claims("Zero.")
    assert of_claims(old, new) == [("One.", None), ("Two.", None)]


def test_a_probe_that_is_skipped_now_and_back():
    run = run_of("weights")
    skipped = Skipped(probe="weights", subject="b", level=run.level, seconds=0, reason="no index")
    new = with_runs(skipped)
    (change,) = changes_of(new).runs
    assert (change.old.kind, change.new.kind, change.new.reason) == ("ran", "skipped", "no index")
    (back,) = changes_of(OLD, new).runs
    assert (back.old.reason, back.new.kind) == ("no index", "ran")
    (lost,) = changes_of(new).findings
    assert lost.why[0] == "the probe weights was skipped (no index) now; before it ran"


@pytest.mark.parametrize(
    ("new", "reasons"),
    [
        (crashed(message="out of memory"), ("RuntimeError: shapes 2x3 and 4x5", "RuntimeError: out of memory")),
        (with_runs(edited(run_of("values"), reason="too large")), ("the weights are not on disk", "too large")),
    ],
)
def test_another_reason_is_a_change(new, reasons):
    (change,) = changes_of(new).runs
    assert (change.old.reason, change.new.reason) == reasons


def test_a_probe_that_only_one_result_knows():
    (change,) = changes_of(with_runs(drop=("values",))).runs
    assert (change.probe, change.old.kind, change.new) == ("values", "skipped", None)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ((fact(64),), (fact(128),), ("64", "128")),
        ((fact(64),), (), ("64", "not established")),
        ((), (fact(None),), ("not established", "none")),
        ((fact(True),), (fact(1),), ("yes", "1")),
        ((fact("user"),), (fact(""),), ("user", '""')),
        ((fact("user"),), (fact(None),), ("user", "none")),
        ((fact("none"),), (fact(None),), ("none", "—")),
        ((fact(None),), (fact(None, level=Level.DECLARED),), ("none (inspected)", "none (declared)")),
        ((fact(0.12345678),), (fact(0.12345679),), ("0.12345678", "0.12345679")),
        ((fact(64),), (fact(64, level=Level.DECLARED),), ("64 (inspected)", "64 (declared)")),
    ],
)
def test_facts_that_are_others(old, new, told):
    (change,) = changes_of(with_facts(*new), with_facts(*old)).facts
    assert (change.subject, change.key) == ("a", "hidden_size")
    assert view.View.fact(change) == told


def test_facts_that_are_the_same():
    assert compare(with_facts(fact(64)), with_facts(fact(64, source="elsewhere"))).is_empty


def test_a_weaker_fact_is_told_where_the_strongest_is_as_it_was():
    def both(declared: int) -> PairResult:
        weak = fact(declared, level=Level.DECLARED).model_dump()
        strong = fact(64, level=Level.SIMULATED).model_dump()
        return with_runs(edited(run_of("config"), facts=[weak]), edited(run_of("embeds"), facts=[strong]))

    (change,) = changes_of(both(32), both(64)).facts
    assert (change.old.value, change.new.value, change.new.probe) == (64, 32, "config")


def of_weights(count: int) -> dict[str, Any]:
    parts = [MemoryPart(name="weights", bytes=count, how="otherwise").model_dump()]
    return {"parts": parts, "allocated_bytes": count}


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (
            memory(**of_weights(2 * 2**30)),
            [
                ("allocated at the peak", "1.07 GB (1.00 GiB)", "2.15 GB (2.00 GiB)", "+1.07 GB (1.00 GiB), +100.0 %"),
                ("weights", "1.07 GB (1.00 GiB)", "2.15 GB (2.00 GiB)", "+1.07 GB (1.00 GiB), +100.0 %"),
            ],
        ),
        (memory(reserved_bytes=2**30), [("held by the allocator", "—", "1.07 GB (1.00 GiB)", "—")]),
        (memory(margin=0.1), [("stated uncertainty", "± 5 %", "± 10 %", "—")]),
        (memory(method="formula"), [("method", "trace", "formula", "—")]),
        (
            memory(fits=[Fit(gpu="H100-80GB", count=1, outcome="does-not-fit", free_bytes=-5).model_dump()]),
            [
                ("H100-80GB x1", "fits", "does-not-fit", "—"),
                ("left over on H100-80GB x1", "75.16 GB (70.00 GiB)", "-5 B", "-75.16 GB (-70.00 GiB), -100.0 %"),
            ],
        ),
        (
            memory(fits=[Fit(gpu="H100-80GB", count=1, outcome="fits", free_bytes=70 * 2**30 + 5).model_dump()]),
            [
                (
                    "left over on H100-80GB x1",
                    "75.16 GB (70.00 GiB)",
                    "75.16 GB (70.00 GiB)",
                    "+5 B, less than 0.1 %",
                )
            ],
        ),
    ],
)
def test_figures_of_memory(new, told):
    row = changes_of(new)
    assert [(f.name, f.old, f.new, f.more) for f in view.View.figures(row)] == told
    assert not row.memory.now_assumed


def test_parts_stand_by_how_much_they_differ():
    def three(*counts: int) -> PairResult:
        parts = [{"name": name, "bytes": n, "how": "t"} for name, n in zip("xyz", counts, strict=True)]
        return memory(parts=parts, allocated_bytes=sum(counts))

    figures = changes_of(three(1, 90, 50), three(2, 10, 10)).memory.figures
    assert [(f.of, f.name, f.more) for f in figures] == [
        ("total", "allocated at the peak", 119), ("part", "y", 80), ("part", "z", 40), ("part", "x", -1),
    ]  # fmt: skip


def test_parts_of_one_name_are_taken_together():
    def two(*counts: int) -> PairResult:
        parts = [{"name": "weights", "bytes": n, "how": "t"} for n in counts]
        return memory(parts=parts, allocated_bytes=sum(counts))

    assert compare(two(3, 4), two(7)).is_empty
    assert [f.more for f in changes_of(two(3, 5), two(3, 4)).memory.figures] == [1, 1]


@pytest.mark.parametrize("old", [-5, 0])
def test_no_percent_of_what_is_not_there(old):
    def left(count: int) -> PairResult:
        return memory(fits=[Fit(gpu="L4", count=1, outcome="fits", free_bytes=count).model_dump()])

    (figure,) = view.View.figures(changes_of(left(10), left(old)))
    assert figure.more == f"+{10 - old} B"


def test_no_memory_on_one_side_and_other_assumptions():
    gone = changes_of(pair_result(memory=None)).memory
    assert gone.no_longer_assumed == ("flash attention",)
    assert {figure.new for figure in gone.figures} == {None}
    assumed = changes_of(memory(assumptions=["eager attention"])).memory
    assert (assumed.figures, assumed.now_assumed) == ((), ("eager attention",))


def test_memory_that_is_the_same_whatever_the_words_of_how():
    assert compare(OLD, memory(**of_weights(2**30))).is_empty


def test_the_verdict_its_strength_and_its_reasons():
    verdict = Verdict(outcome=Outcome.COMPATIBLE, strength=Level.EXECUTED, because=("all holds",))
    row = changes_of(pair_result(verdict=verdict))
    lines = view.View.verdict(row)
    assert ("+", "all holds") in lines
    assert ("~", "stands on: inspected → executed") in lines
    assert [line for sign, line in lines if sign == "-"] == list(OLD.verdict.because)
