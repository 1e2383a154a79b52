"""The report's argument: every figure leads to its evidence, what is open has its price, claims are held to account."""

from __future__ import annotations

import re

import pytest

from tests.factories import finding, pair_result, seen
from wirecheck.schema import (
    Claim,
    Expectation,
    Fact,
    Level,
    MemoryTimeline,
    Policy,
    Ran,
    Skipped,
    TimelinePart,
    TimelinePhase,
)
from wirecheck.views import claims, costs, evidence, html, markdown, story


def links_of(text: str) -> set[str]:
    return set(re.findall(r"\]\(#([^)]+)\)", text))


def anchors_of(text: str) -> list[str]:
    return re.findall(r'<a id="([^"]+)"></a>', text)


# --- evidence ----------------------------------------------------------------------------------------------------


def test_every_figure_of_the_tables_leads_to_its_row_of_evidence():
    result = pair_result()
    text = markdown.render(result)
    anchors = anchors_of(text)
    assert len(anchors) == len(set(anchors))
    headings = {re.sub(r"[^\w-]", "", h.lower().replace(" ", "-")) for h in re.findall(r"^#+ (.*)$", text, re.M)}
    assert links_of(text) <= {*anchors, *headings}
    shown = [fact for row in story.figures(result) for fact in row.facts if fact]
    assert shown, "the factory establishes figures"
    for fact in shown:
        assert evidence.fact_anchor(fact) in links_of(text)


def test_the_page_has_the_same_places_as_the_markdown():
    result = pair_result()
    page = html.render(result)
    for anchor in anchors_of(markdown.render(result)):
        assert page.count(f'id="{anchor}"') == 1


def test_two_findings_of_one_code_have_places_of_their_own():
    result = pair_result()
    twice = result.model_copy(update={"runs": (*result.runs, *result.runs)})
    anchors = [one.anchor for one in evidence.claims(twice)]
    assert len(anchors) == len(set(anchors)) == 2 * len(result.findings)


def test_each_figure_has_its_rung_its_source_and_its_probe():
    result = pair_result()
    text = markdown.render(result).split("### Figures")[1].split("### Probes")[0]
    for one in evidence.figures(result):
        (row,) = [line for line in text.splitlines() if f'"{one.anchor}"' in line]
        assert f"| {one.fact.level} |" in row
        assert row.endswith(f"| {one.probe} |")


def test_the_ladder_is_told_for_each_subject():
    result = pair_result()
    rows = story.ladders(result)
    assert [level for level, _, _ in rows] == list(Level)
    for subject, n in (("a", 0), ("b", 1), ("pair", 2)):
        runs = [run for run in result.runs if run.subject == subject and run.level is Level.INSPECTED]
        settled = sum(run.gap(Level.INSPECTED) is None for run in runs)
        cell = rows[1][2][n].replace("\u00a0", " ")
        assert cell.endswith(f"{settled} of {len(runs)}") if runs else cell == "—"


# --- what it would cost ------------------------------------------------------------------------------------------


def open_run(probe: str, subject: str, level: Level) -> Skipped:
    return Skipped(probe=probe, subject=subject, level=level, seconds=0.0, reason="beyond --depth inspected")


def test_what_is_open_has_its_needs_and_its_command():
    size = Fact(key="tensor_bytes", subject="b", value=16_060_522_496, level=Level.INSPECTED, source="headers")
    sound = Ran(probe="weights", subject="b", level=Level.INSPECTED, seconds=0.0, facts=(size,))
    runs = (sound, open_run("embeds-weights", "b", Level.EXECUTED), open_run("step-device", "pair", Level.MEASURED))
    result = pair_result(
        runs=runs, command="wirecheck pair x y --depth inspected", policy=Policy(depth=Level.INSPECTED)
    )
    found = {cost.level: cost for cost in costs.costs(result)}
    executed, measured = found[Level.EXECUTED], found[Level.MEASURED]
    assert executed.command == "wirecheck pair x y --depth executed"
    assert result.b.name in executed.needs
    assert result.a.name not in executed.needs
    assert "16.06 GB" in executed.needs
    assert measured.command == "wirecheck pair x y --depth measured"
    assert "GPU" in measured.needs


def test_a_check_that_went_as_deep_has_its_own_command():
    result = pair_result(runs=(open_run("embeds-weights", "a", Level.EXECUTED),))
    assert result.policy.depth is Level.EXECUTED
    assert costs.costs(result)[0].command == result.command


def test_nothing_open_costs_nothing():
    result = pair_result(runs=())
    assert costs.costs(result) == ()
    assert "Every question" in costs.sentence(result)


@pytest.mark.parametrize("status", ["started", "interrupted"])
def test_an_unfinished_check_does_not_know_what_is_open(status):
    result = pair_result(status=status, runs=pair_result().runs[:1])
    assert "not finished" in costs.sentence(result)
    assert story.num_open(result).endswith("or more")
    text = markdown.render(result)
    assert "Every question" not in text
    assert "●" not in text.split("## Warnings")[0]
    assert "of those that were begun" in text
    assert "data-rung" not in html.render(result).split("<main")[1].split('id="warnings"')[0]


def test_code_of_a_repository_is_offered_as_a_decision():
    run = open_run("skeleton", "a", Level.INSPECTED).model_copy(
        update={"reason": "x needs custom code of its repository, not executed without --trust-remote-code"}
    )
    (cost,) = costs.costs(pair_result(runs=(run,)))
    assert cost.command.endswith(" --trust-remote-code")
    assert cost.needs.startswith("that you have read the code")


def test_what_cannot_be_measured_has_no_command():
    run = open_run("step-device", "pair", Level.MEASURED)
    result = pair_result(runs=(run,), train=pair_result().train.model_copy(update={"quantize": "nf4"}))
    (cost,) = costs.costs(result)
    assert cost.command == ""
    assert "no probe measures" in cost.needs
    assert "Then:" not in markdown.render(result).split("What it would cost")[1].split("## How to")[0]


def test_a_measurement_is_not_offered_on_the_cpu():
    run = open_run("step-device", "pair", Level.MEASURED)
    (cost,) = costs.costs(pair_result(runs=(run,), command="wirecheck pair x y --device cpu"))
    assert cost.command == "wirecheck pair x y --depth measured"
    assert "CUDA" in cost.needs


def test_a_command_that_is_none_is_shown_as_it_is():
    run = open_run("step-device", "pair", Level.MEASURED)
    assert costs.costs(pair_result(runs=(run,), command='wirecheck pair "it'))[0].command == 'wirecheck pair "it'


def test_one_question_stands_and_two_stand():
    run = open_run("step-device", "pair", Level.MEASURED)
    assert costs.sentence(pair_result(runs=(run,))).startswith("1 question stands open")
    assert costs.sentence(pair_result(runs=(run, run))).startswith("2 questions stand open")


# --- the step, phase by phase ------------------------------------------------------------------------------------


def test_each_phase_is_told_at_its_fullest():
    result = pair_result()
    line = MemoryTimeline(
        phases=(TimelinePhase(name="forward a", first=0), TimelinePhase(name="backward a", first=2)),
        parts=(
            TimelinePart(name="weights a", bytes=(5, 5, 5, 5)),
            TimelinePart(name="gradients a", bytes=(1, 2, 9, 4)),
        ),
        peak=2,
    )
    result = result.model_copy(update={"memory": result.memory.model_copy(update={"timeline": line})})
    assert [(phase.name, phase.bytes) for phase in story.phases(result)] == [("forward a", 7), ("backward a", 14)]
    assert "| backward a | 14 B | gradients a" in markdown.render(result)
    assert story.phases(pair_result()) == ()


# --- claims ------------------------------------------------------------------------------------------------------


def claim(subject: str, key: str, value, source: str = "an old report") -> Claim:
    return Claim(subject=subject, key=key, value=value, source=source)


def fact_of(result, subject: str) -> Fact:
    return next(f for run in result.runs for f in run.facts if f.subject == subject and isinstance(f.value, int))


def test_a_claim_holds_or_not_or_nothing_speaks_to_it():
    result = pair_result()
    fact = fact_of(result, "a")
    said = (
        claim("a", fact.key, fact.value),
        claim("a", fact.key, fact.value + 1),
        claim("a", "no_such_figure", 3),
    )
    found = claims.compared(result.model_copy(update={"claims": said}))
    assert [(one.holds, one.claim.value) for one in found] == [(False, fact.value + 1), (None, 3), (True, fact.value)]
    assert claims.sentence(found) == "1 of 3 contradicted, 1 borne out, 1 not established."


@pytest.mark.parametrize(
    ("share", "holds"), [(0.951, True), (1.049, True), (0.949, False), (1.052, False), (1.2, False)]
)
def test_memory_is_held_to_within_the_stated_error(share, holds):
    result = pair_result()
    memory = result.memory.model_copy(update={"margin": 0.05})
    said = claim("pair", claims.MEMORY, int(memory.allocated_bytes * share))
    (found,) = claims.compared(result.model_copy(update={"claims": (said,), "memory": memory}))
    assert found.holds is holds
    assert found.found == memory.allocated_bytes


def test_a_verdict_claimed_is_compared_with_this_one():
    result = pair_result()
    said = (claim("pair", claims.VERDICT, "compatible"), claim("pair", claims.VERDICT, str(result.verdict.outcome)))
    found = claims.compared(result.model_copy(update={"claims": said}))
    assert [one.holds for one in found] == [False, True]


def test_true_is_not_one_and_a_number_is_not_its_digits():
    result = pair_result()
    fact = fact_of(result, "a").model_copy(update={"value": 1})
    run = Ran(probe="p", subject="a", level=Level.INSPECTED, seconds=0.0, facts=(fact,))
    said = (claim("a", fact.key, True), claim("a", fact.key, "1"), claim("a", fact.key, 1))
    found = claims.compared(result.model_copy(update={"runs": (run,), "claims": said}))
    assert [one.holds for one in found] == [False, False, True]


def test_expectations_of_the_settings_are_claims_too():
    result = pair_result()
    fact = fact_of(result, "a")
    policy = Policy(expectations=(Expectation(subject="a", key=fact.key, value=fact.value),))
    (found,) = claims.compared(result.model_copy(update={"policy": policy}))
    assert found.holds
    near = Fact(key="embedding_rms", subject="a", value=0.05007, level=Level.EXECUTED, source="s")
    run = Ran(probe="p", subject="a", level=Level.EXECUTED, seconds=0.0, facts=(near,))
    policy = Policy(expectations=(Expectation(subject="a", key="embedding_rms", value=0.05008),))
    (strict,) = claims.compared(result.model_copy(update={"policy": policy, "runs": (run,)}))
    assert not strict.holds, "as CFG11 has it"
    said = claim("a", "embedding_rms", 0.05008)
    (loose,) = claims.compared(result.model_copy(update={"claims": (said,), "runs": (run,)}))
    assert loose.holds, "the digits that are printed"
    assert "settings" in found.claim.source


def test_the_section_is_there_where_something_was_claimed_and_else_not():
    result = pair_result()
    assert "## Compared with the claim" not in markdown.render(result)
    fact = fact_of(result, "a")
    said = (claim("a", fact.key, fact.value + 1, source="Fri|day"), claim("b", "no_such_figure", "x"))
    text = markdown.render(result.model_copy(update={"claims": said}))
    section = text.split("## Compared with the claim")[1].split("## What is not proven")[0]
    assert "| **does not hold** | Fri\\|day |" in section
    assert "| **not established** |" in section
    assert f"(#{evidence.fact_anchor(fact)})" in section


@pytest.mark.parametrize(
    ("reason", "first"),
    [
        ("moot after CFG01 config-missing (a)", "what blocks is mended first"),
        ("beyond --depth inspected", "the real weights"),
    ],
)
def test_what_has_to_be_mended_first_is_said_first(reason, first):
    run = open_run("embeds-weights", "a", Level.EXECUTED).model_copy(update={"reason": reason})
    assert costs.costs(pair_result(runs=(run,)))[0].needs.startswith(first)


def test_trained_parameters_and_memory_lead_to_their_evidence():
    count = Fact(key="encoder_parameters", subject="pair", value=1234, level=Level.INSPECTED, source="s")
    told = finding("MEM03", "note", "pair", "One step peaks at 1 GB.", seen("trace of two steps", 10**9))
    run = Ran(probe="memory", subject="pair", level=Level.SIMULATED, seconds=0.0, facts=(count,), findings=(told,))
    text = markdown.render(pair_result(runs=(run,)))
    assert "[1,234](#fact-pair-encoder-parameters)" in text
    assert "](#ev-pair-mem03)" in text.split("## Memory")[1].split("## ")[0]


def test_the_pair_asks_for_no_weights_that_its_models_have():
    runs = (open_run("embeds-weights", "a", Level.EXECUTED), open_run("wire-weights", "pair", Level.EXECUTED))
    (cost,) = costs.costs(pair_result(runs=runs))
    assert "org/alpha" in cost.needs
    assert "org/beta" not in cost.needs
    (cost,) = costs.costs(pair_result(runs=runs[1:]))
    assert "org/alpha" in cost.needs
    assert "org/beta" in cost.needs


def test_a_twin_is_no_price_where_something_else_is_lacking():
    run = open_run("memory", "pair", Level.SIMULATED).model_copy(
        update={"reason": "needs class-fit (a), which skipped"}
    )
    assert costs.costs(pair_result(runs=(run,)))[0].needs == "what each of them names"
