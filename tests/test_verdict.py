"""`judge`: its laws as properties, and the plain cases that the laws alone would let slip."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import cases, finding
from wirecheck.schema import (
    LADDER,
    Acceptance,
    Crashed,
    Finding,
    Level,
    Outcome,
    Policy,
    ProbeError,
    Ran,
    Severity,
    Skipped,
    Verdict,
)
from wirecheck.verdict import Expected, decide, judge, standing

D, I, S, X, M = LADDER  # noqa: E741 - the five rungs, in order
RANK = {Outcome.INCOMPATIBLE: 0, Outcome.UNPROVEN: 1, Outcome.COMPATIBLE: 2}


def ran(probe: str, level: Level, *findings: Finding, subject: str = "a") -> Ran:
    return Ran(
        probe=probe, subject=subject, level=level, seconds=0, findings=findings or (finding(Severity.OK, level),)
    )


def skipped(probe: str, level: Level, *findings: Finding, subject: str = "a") -> Skipped:
    return Skipped(probe=probe, subject=subject, level=level, seconds=0, findings=findings, reason="no weights")


def crashed(probe: str, level: Level, *findings: Finding) -> Crashed:
    error = ProbeError(type="KeyError", message="'x'", traceback="t")
    return Crashed(probe=probe, subject="a", level=level, seconds=0, findings=findings, error=error)


def asked(*questions: tuple[str, Level], subject: str = "a") -> tuple[Expected, ...]:
    return tuple(Expected(name, subject, level) for name, level in questions)


def verdict(runs: list, expected: tuple[Expected, ...], required: Level = S, *, strict: bool = False) -> Verdict:
    return judge(runs, expected, Policy(required=required, strict=strict))


# The laws


@given(cases(), st.randoms())
def test_order_of_runs_is_irrelevant(case, random):
    runs, expected, policy = case
    shuffled = runs.copy()
    random.shuffle(shuffled)
    assert judge(shuffled, expected, policy) == judge(runs, expected, policy)


@given(cases())
def test_order_of_questions_is_irrelevant(case):
    runs, expected, policy = case
    assert judge(runs, expected[::-1], policy) == judge(runs, expected, policy)


@given(cases())
def test_subjects_judged_apart_come_to_the_same(case):
    runs, expected, policy = case
    parts = [
        standing([run for run in runs if run.subject == side], [one for one in expected if one.subject == side])
        for side in ("pair", "b", "a")
    ]
    assert decide(parts, policy) == judge(runs, expected, policy)


@given(cases(), st.sampled_from(LADDER))
def test_asking_for_more_never_improves_the_outcome(case, level):
    runs, expected, policy = case
    low, high = sorted([policy.required, level], key=lambda one: one.rank)
    loose = judge(runs, expected, Policy(required=low))
    tight = judge(runs, expected, Policy(required=high, strict=policy.strict))
    assert RANK[tight.outcome] <= RANK[loose.outcome]


@given(cases(), st.data())
def test_losing_a_run_never_helps_unless_it_held_the_blocker(case, data):
    runs, expected, policy = case
    if not runs:
        return
    lost = data.draw(st.integers(0, len(runs) - 1))
    before, after = judge(runs, expected, policy), judge(runs[:lost] + runs[lost + 1 :], expected, policy)
    refused = {Severity.BLOCK, Severity.WARN} if policy.strict else {Severity.BLOCK}
    if not any(one.severity in refused for one in runs[lost].findings):
        assert RANK[after.outcome] <= RANK[before.outcome]
    assert (after.strength.rank if after.strength else -1) <= (before.strength.rank if before.strength else -1)


@given(cases())
def test_every_outcome_says_why(case):
    runs, expected, policy = case
    assert all(judge(runs, expected, policy).because)
    assert judge(runs, expected, policy).because


@given(cases())
def test_compatible_only_without_a_block_and_with_every_required_rung_settled(case):
    runs, expected, policy = case
    result = judge(runs, expected, policy)
    if result.outcome is Outcome.COMPATIBLE:
        assert not any(one.severity is Severity.BLOCK for run in runs for one in run.findings)
        answered = {(run.probe, run.subject) for run in runs if isinstance(run, Ran)}
        needed = {(q.probe, q.subject) for q in expected if q.level.rank <= policy.required.rank}
        assert needed <= answered
        assert result.strength.rank >= policy.required.rank


# The plain cases


def test_all_settled_is_compatible_on_the_highest_rung():
    result = verdict([ran("p", I), ran("q", S)], asked(("p", I), ("q", S)))
    assert result == Verdict(
        outcome=Outcome.COMPATIBLE,
        strength=S,
        because=("every question up to simulated is settled, and simulated was required",),
    )


def test_an_empty_registry_proves_nothing():
    result = verdict([], (), D)
    assert (result.outcome, result.strength) == (Outcome.UNPROVEN, None)
    assert result.because == ("no probe reaches declared",)


def test_runs_nobody_asked_for_prove_nothing():
    assert verdict([ran("p", X)], (), D).strength is None


def test_a_demand_met_exactly_is_met():
    assert verdict([ran("p", X)], asked(("p", X)), X).outcome is Outcome.COMPATIBLE


def test_a_rung_without_a_probe_is_not_reached():
    result = verdict([ran("p", S)], asked(("p", S)), X)
    assert (result.outcome, result.strength, result.because) == (Outcome.UNPROVEN, S, ("no probe reaches executed",))


def test_a_demand_on_a_rung_without_probes_is_met_from_above():
    assert verdict([ran("p", S)], asked(("p", S)), I).outcome is Outcome.COMPATIBLE


def test_a_hole_low_down_is_not_paid_for_higher_up():
    result = verdict([skipped("p", I), ran("q", X)], asked(("p", I), ("q", X)), I)
    assert (result.outcome, result.strength) == (Outcome.UNPROVEN, None)
    assert result.because == ("p (a, inspected): skipped: no weights",)


def test_a_gap_above_the_demand_limits_strength_only():
    result = verdict([ran("p", S), skipped("q", X)], asked(("p", S), ("q", X)))
    assert (result.outcome, result.strength) == (Outcome.COMPATIBLE, S)


def test_a_gap_on_a_rung_takes_the_whole_rung():
    result = verdict([ran("p", I), ran("q", S), skipped("r", S)], asked(("p", I), ("q", S), ("r", S)))
    assert (result.outcome, result.strength) == (Outcome.UNPROVEN, I)


def test_gaps_above_the_demand_are_not_listed():
    result = verdict([skipped("p", S), skipped("q", X)], asked(("p", S), ("q", X)))
    assert result.because == ("p (a, simulated): skipped: no weights",)


def test_an_absent_run_is_a_gap():
    assert verdict([], asked(("p", S))).because == ("p (a, simulated): not run",)


def test_a_crash_is_a_gap_with_its_error():
    assert verdict([crashed("p", S)], asked(("p", S))).because == ("p (a, simulated): crashed: KeyError: 'x'",)


def test_a_run_without_a_claim_is_a_gap():
    empty = Ran(probe="p", subject="a", level=S, seconds=0)
    assert verdict([empty], asked(("p", S))).because == ("p (a, simulated): ran, but claimed nothing",)


def test_within_a_claim_the_strongest_evidence_counts():
    assert verdict([ran("p", S, finding(Severity.OK, D, S, I))], asked(("p", S))).outcome is Outcome.COMPATIBLE


def test_across_claims_the_weakest_counts():
    result = verdict([ran("p", S, finding(Severity.OK, S), finding(Severity.NOTE, I))], asked(("p", S)))
    assert result.because == ("p (a, simulated): CFG01 rests on inspected evidence only",)


def test_stronger_evidence_than_the_rung_settles_it():
    assert verdict([ran("p", S, finding(Severity.OK, M))], asked(("p", S))).strength is S


def test_the_registry_says_the_rung_not_the_run():
    low = Ran(probe="p", subject="a", level=I, seconds=0, findings=(finding(Severity.OK, I),))
    assert verdict([low], asked(("p", S))).outcome is Outcome.UNPROVEN


def test_a_pass_of_b_does_not_hide_a_gap_of_a():
    expected = asked(("p", S)) + asked(("p", S), subject="b")
    assert verdict([ran("p", S, subject="b")], expected).because == ("p (a, simulated): not run",)


def test_two_runs_of_one_question_must_both_settle_it():
    assert verdict([ran("p", S), skipped("p", S)], asked(("p", S))).outcome is Outcome.UNPROVEN


@pytest.mark.parametrize("make", [ran, skipped, crashed])
def test_a_block_is_incompatible_however_its_run_ended(make):
    block = finding(Severity.BLOCK, I, code="WGT02", claim="The shard is cut.")
    result = verdict([make("p", I, block), ran("q", S)], asked(("p", I), ("q", S)))
    assert (result.outcome, result.because) == (Outcome.INCOMPATIBLE, ("WGT02 (a): The shard is cut.",))


def test_a_block_leaves_the_strength_as_it_was_proven():
    block = finding(Severity.BLOCK, S)
    assert verdict([ran("p", S, block)], asked(("p", S))).strength is S


def test_blockers_are_said_once_each_and_sorted():
    one, two = finding(Severity.BLOCK, I, code="WGT02"), finding(Severity.BLOCK, I, code="CFG01")
    result = verdict([ran("p", I, one, two, one)], asked(("p", I)))
    assert result.because == ("CFG01 (a): It holds.", "WGT02 (a): It holds.")


def test_many_blockers_stand_in_order():
    codes = [f"CFG{n:02d}" for n in range(1, 13)]
    runs = [ran("p", S, *(finding(Severity.BLOCK, S, code=code) for code in reversed(codes)))]
    assert [line.split()[0] for line in verdict(runs, asked(("p", S))).because] == codes


def test_one_claim_of_two_severities_is_judged_the_same_in_any_order():
    block, warning = finding(Severity.BLOCK, I), finding(Severity.WARN, I)
    expected = asked(("p", I), ("q", I))
    one = verdict([ran("p", I, block), ran("q", I, warning)], expected, strict=True)
    assert one == verdict([ran("q", I, warning), ran("p", I, block)], expected, strict=True)
    assert len(one.because) == 2


def test_a_warning_alone_is_compatible():
    assert verdict([ran("p", S, finding(Severity.WARN, S))], asked(("p", S))).outcome is Outcome.COMPATIBLE


def test_strict_refuses_a_warning_and_says_so():
    result = verdict([ran("p", S, finding(Severity.WARN, S))], asked(("p", S)), strict=True)
    assert result.outcome is Outcome.INCOMPATIBLE
    assert result.because == ("CFG01 (a): It holds. (a warning, refused by --strict)",)


def test_strict_does_not_mind_a_note():
    assert verdict([ran("p", S, finding(Severity.NOTE, S))], asked(("p", S)), strict=True).outcome is Outcome.COMPATIBLE


def test_a_block_on_declared_evidence_is_refused():
    with pytest.raises(ValueError, match="inspected evidence or better"):
        finding(Severity.BLOCK, D)


def test_the_rungs_are_compared_by_their_place_and_not_as_words():
    runs = [ran("p", S), ran("q", X)]  # "simulated" comes after "executed" in the alphabet, and after "measured" too
    assert verdict(runs, asked(("p", S), ("q", X)), X).strength is X
    assert verdict([*runs, ran("r", M)], asked(("p", S), ("q", X), ("r", M)), M).strength is M
    assert verdict(runs, asked(("p", S), ("q", X)), X).outcome is Outcome.COMPATIBLE


def test_what_is_kept_of_the_runs_is_every_block_and_warning_and_nothing_lighter():
    findings = tuple(finding(severity, S) for severity in (Severity.OK, Severity.NOTE, Severity.WARN, Severity.BLOCK))
    kept = standing([ran("p", S, *findings)], asked(("p", S))).grave
    assert {one.severity for one in kept} == {Severity.WARN, Severity.BLOCK}


# What the user takes upon themselves


def taken(code: str, subject: str, reason: str = "known") -> Acceptance:
    return Acceptance(code=code, subject=subject, reason=reason, until=date(2030, 1, 2))


def judged(*accepted: Acceptance, severity: Severity = Severity.BLOCK, strict: bool = False) -> Verdict:
    found = finding(severity, S)
    policy = Policy(required=S, strict=strict, accepted=accepted)
    return judge([ran("p", S, found)], asked(("p", S)), policy)


def test_an_accepted_block_does_not_decide_and_is_told():
    found = finding(Severity.BLOCK, S)
    made = judged(taken(found.code, found.subject))
    assert made.outcome is Outcome.COMPATIBLE
    assert made.because[1:] == (f"accepted until 2030-01-02: {found.code} ({found.subject}): known",)


def test_an_acceptance_is_of_one_code_and_one_subject():
    found = finding(Severity.BLOCK, S)
    other = next(subject for subject in ("a", "b", "pair") if subject != found.subject)
    assert judged(taken("CFG01" if found.code != "CFG01" else "CFG02", found.subject)).outcome is Outcome.INCOMPATIBLE
    assert judged(taken(found.code, other)).outcome is Outcome.INCOMPATIBLE


def test_an_accepted_warning_under_strict():
    found = finding(Severity.WARN, S)
    one = taken(found.code, found.subject)
    assert judged(severity=Severity.WARN, strict=True).outcome is Outcome.INCOMPATIBLE
    made = judged(one, severity=Severity.WARN, strict=True)
    assert (made.outcome, len(made.because)) == (Outcome.COMPATIBLE, 2)
    assert len(judged(one, severity=Severity.WARN).because) == 1  # nothing that would have decided


def test_acceptances_are_told_in_order():
    found = finding(Severity.BLOCK, S)
    both = [taken(found.code, found.subject, reason) for reason in ("second", "first")]
    assert [line.rpartition(" ")[2] for line in judged(*both).because[1:]] == ["first", "second"]
