"""The JUnit view: what CI will show, letter for letter, and that no text of a stranger breaks it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import COMMITS, HOSTILE, finding, hostile_result, pair_result, pair_runs, seen
from wirecheck.schema import Level, Policy, Ran
from wirecheck.views import junit
from wirecheck.views.words import visible

EXPECTED = """\
<?xml version="1.0" encoding="utf-8"?>
<testsuites name="wirecheck: org/alpha + org/beta" tests="12" failures="2" errors="1" time="4.375">
	<testsuite name="verdict" tests="1" errors="0" failures="1" skipped="0" time="0">
		<properties>
			<property name="outcome" value="incompatible"/>
			<property name="strength" value="inspected"/>
			<property name="required" value="simulated"/>
			<property name="command" value="wirecheck pair org/alpha org/beta"/>
			<property name="seed" value="0"/>
			<property name="wirecheck" value="0.1.0"/>
		</properties>
		<testcase name="verdict" classname="wirecheck">
			<failure message="org/alpha + org/beta cannot be wired as asked: 1 blocker." type="incompatible">\
WGT08 (b): The embedding has 31,999 rows where the config says 32,000.</failure>
		</testcase>
	</testsuite>
	<testsuite name="a: org/alpha" tests="4" errors="0" failures="0" skipped="0" time="1.75">
		<properties>
			<property name="ref" value="org/alpha"/>
			<property name="commit" value="0123456789ab0000000000000000000000000000"/>
		</properties>
		<testcase name="settled" classname="wirecheck.a.config" time="0.25"/>
		<testcase name="CFG03 not-a-causal-lm" classname="wirecheck.a.config">
			<system-out>ok (inspected): The class is LlamaForCausalLM.
  config.json@0123456789ab#architectures: LlamaForCausalLM (inspected)</system-out>
		</testcase>
		<testcase name="settled" classname="wirecheck.a.embeds" time="1.5"/>
		<testcase name="EMB10 embedding-scale" classname="wirecheck.a.embeds">
			<system-out>note (simulated): The table's RMS is 0.02.
  twin, seed 0: 0.02 (simulated)</system-out>
		</testcase>
	</testsuite>
	<testsuite name="b: org/beta" tests="5" errors="0" failures="1" skipped="1" time="0.625">
		<properties>
			<property name="ref" value="org/beta"/>
			<property name="commit" value="ba98765432101111111111111111111111111111"/>
		</properties>
		<testcase name="settled" classname="wirecheck.b.tokenizer" time="0.5"/>
		<testcase name="TOK05 no-pad" classname="wirecheck.b.tokenizer">
			<system-out>warn (inspected): The tokenizer has no pad token.
  tokenizer_config.json@ba9876543210#pad_token: — (inspected)
  remedy: Set the unused token &lt;|reserved_0|&gt; as pad.</system-out>
		</testcase>
		<testcase name="settled" classname="wirecheck.b.weights" time="0.125"/>
		<testcase name="WGT08 vocab-rows-differ" classname="wirecheck.b.weights">
			<failure message="The embedding has 31,999 rows where the config says 32,000." type="block">\
block (inspected): The embedding has 31,999 rows where the config says 32,000.
  model.safetensors@ba9876543210#model.embed_tokens.weight: 31,999, expected 32,000 (inspected)
  remedy: Set vocab_size to 31999.</failure>
		</testcase>
		<testcase name="settled" classname="wirecheck.b.values" time="0.0">
			<skipped message="the weights are not on disk" type="skipped"/>
		</testcase>
	</testsuite>
	<testsuite name="pair: org/alpha + org/beta" tests="2" errors="1" failures="0" skipped="0" time="2.0">
		<testcase name="settled" classname="wirecheck.pair.wire" time="2.0">
			<error message="shapes 2x3 and 4x5" type="RuntimeError">Traceback:
  step
RuntimeError: shapes 2x3 and 4x5</error>
		</testcase>
		<testcase name="PAR01 hidden-size-differs" classname="wirecheck.pair.wire">
			<system-out>note (inspected): The hidden sizes are 64 and 48.
  config.json@0123456789ab#hidden_size: 64 (inspected)
  config.json@ba9876543210#hidden_size: 48 (inspected)</system-out>
		</testcase>
	</testsuite>
</testsuites>
"""

# The dialect of pytest and Jenkins (junit-10.xsd): what each element may hold.
ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testcase": {"name", "classname", "time"},
    "property": {"name", "value"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"type", "message"},
    "properties": set(),
    "system-out": set(),
}
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "properties": {"property"},
    "testcase": {"failure", "error", "skipped", "system-out"},
}


def parsed(result):
    return ElementTree.fromstring(junit.render(result))


def case(root, classname, name):
    """The one case of that class and name."""
    (found,) = [c for c in root.iter("testcase") if (c.get("classname"), c.get("name")) == (classname, name)]
    return found


def test_whole_text():
    assert junit.render(pair_result()) == EXPECTED


def test_compatible_verdict_passes_and_says_why():
    root = parsed(pair_result(runs=pair_runs()[:2], b=None))
    verdict = case(root, "wirecheck", "verdict")
    assert [child.tag for child in verdict] == ["system-out"]
    assert verdict[0].text.startswith("org/alpha can take part in this wire: proven up to “simulated”")
    assert "every question up to simulated is settled" in verdict[0].text
    assert root.get("failures") == root.get("errors") == "0"


def test_unproven_verdict_is_never_green():
    root = parsed(pair_result(runs=pair_runs()[:1], b=None))
    failure = case(root, "wirecheck", "verdict").find("failure")
    assert failure.get("type") == "unproven"
    assert failure.text == "no probe reaches simulated"
    assert root.get("failures") == "1"


@pytest.mark.parametrize("status", ["started", "interrupted"])
def test_unfinished_check_is_an_error(status):
    error = case(parsed(pair_result(status=status)), "wirecheck", "verdict").find("error")
    assert error.get("type") == status
    assert (
        error.get("message")
        == f"org/alpha + org/beta: the check was {status} and not finished, so nothing is certified."
    )


def test_no_runs_leaves_the_verdict_alone():
    root = parsed(pair_result(runs=()))
    assert [suite.get("name") for suite in root] == ["verdict"]


def test_warning_passes_by_default_and_fails_when_strict():
    lax = case(parsed(pair_result()), "wirecheck.b.tokenizer", "TOK05 no-pad")
    strict = case(parsed(pair_result(policy=Policy(strict=True))), "wirecheck.b.tokenizer", "TOK05 no-pad")
    assert [child.tag for child in lax] == ["system-out"]
    assert [(child.tag, child.get("type")) for child in strict] == [("failure", "warn")]


def test_weak_evidence_leaves_the_question_open():
    claim = finding("CFG12", "note", "a", "The dtype is float16.", seen("config.json", "float16", level=Level.DECLARED))
    run = Ran(probe="config", subject="a", level=Level.INSPECTED, seconds=0.1, findings=(claim,))
    skipped = case(parsed(pair_result(runs=(run,))), "wirecheck.a.config", "settled").find("skipped")
    assert (skipped.get("type"), skipped.get("message")) == ("open", "CFG12 rests on declared evidence only")


def test_findings_of_one_code_share_a_case():
    claims = tuple(
        finding("WGT05", severity, "a", f"Claim {number}.", seen("model.safetensors", 0), remedy="Mend it.")
        for number, severity in enumerate(("ok", "block", "warn", "block"))
    )
    run = Ran(probe="weights", subject="a", level=Level.INSPECTED, seconds=0.1, findings=claims)
    shared = case(parsed(pair_result(runs=(run,))), "wirecheck.a.weights", "WGT05 tensor-missing")
    failure, output = shared
    assert failure.get("message") == "Claim 1. (and 1 more)"
    assert [line for line in failure.text.split("\n") if "Claim" in line] == [
        "block (inspected): Claim 1.",
        "block (inspected): Claim 3.",
    ]
    assert [line for line in output.text.split("\n") if "Claim" in line] == [
        "warn (inspected): Claim 2.",
        "ok (inspected): Claim 0.",
    ]


def test_seconds_are_counted_once():
    root = parsed(pair_result())
    assert float(root.get("time")) == sum(run.seconds for run in pair_runs())


def test_hostile_text_is_spelled_out():
    root = parsed(hostile_result())
    failure = case(root, "wirecheck.a.config", "TOK08 special-token-splits").find("failure")
    shown = visible(HOSTILE).replace("\ufffe", "\\ufffe")
    assert failure.get("message") == shown
    assert failure.text.split("\n")[0] == f"block (inspected): {shown}"
    error = case(root, "wirecheck.a.tokenizer", "settled").find("error")
    assert error.get("type") == error.get("message") == shown
    assert error.text.split("\n")[0] == "one"
    assert not {"\x00", "\x1b", "\r", "\u202e", "\u2066", "\ufeff", "\ufffe"} & set(junit.render(hostile_result()))


@given(st.text(min_size=1))
def test_any_text_gives_a_document_of_the_dialect(text):
    root = parsed(hostile_result(text))
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) <= ATTRIBUTES[element.tag]
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set())
    cases = [(c.get("classname"), c.get("name")) for c in root.iter("testcase")]
    assert len(cases) == len(set(cases)) == 8


def test_commits_are_in_the_properties():
    suites = {suite.get("name"): suite for suite in parsed(pair_result())}
    commits = [
        suites[name].find("properties/property[@name='commit']").get("value")
        for name in ("a: org/alpha", "b: org/beta")
    ]
    assert commits == list(COMMITS)
