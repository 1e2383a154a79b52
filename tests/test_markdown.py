"""The report: what it says, where it says it, and that hostile text never breaks it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.factories import hostile_result, pair_result
from wirecheck.schema import Level, PairResult, Policy, Verdict
from wirecheck.views import costs, evidence, html, markdown, story, words

SECTIONS = (
    "Executive summary",
    "Warnings",
    "Models analysed",
    "Adapter",
    "Memory",
    "What is not proven",
    "How to run it",
    "Evidence",
)


def headings(text: str) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return [
        tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"
    ]


def tables_are_whole(text: str) -> bool:
    """Every row of every table has as many cells as its head."""
    width = 0
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            cells = 0
        elif token.type in ("th_open", "td_open"):
            cells += 1
        elif token.type == "thead_close":
            width = cells
        elif token.type == "tr_close" and width and cells != width:
            return False
        elif token.type == "table_close":
            width = 0
    return True


def test_the_sections_stand_in_their_order():
    assert headings(markdown.render(pair_result())) == list(SECTIONS)


def test_same_input_same_bytes():
    assert markdown.render(pair_result()) == markdown.render(pair_result())


def test_a_result_read_back_renders_the_same():
    result = pair_result()
    again = PairResult.model_validate_json(result.model_dump_json())
    assert (markdown.render(again), html.render(again)) == (markdown.render(result), html.render(result))


def test_every_claim_stands_with_its_rung_and_each_source():
    result = pair_result()
    text = markdown.render(result)
    for finding in result.findings:
        shown = text.split("## Evidence")[1]
        rows = [line for line in shown.splitlines() if line.startswith("|") and f"{finding.code} " in line]
        assert any(f"| {finding.level} |" in row for row in rows), finding.code
        for seen in finding.evidence:
            assert any(story.short_source(seen.source).split("|")[0] in row for row in rows)


def test_every_warning_and_block_comes_with_its_remedy():
    result = pair_result()
    section = markdown.render(result).split("## Warnings")[1].split("## Models analysed")[0]
    acted = [claim.finding for claim in evidence.to_act_on(result)]
    assert acted, "the factory has a warning and a block"
    for finding in acted:
        assert f"**{finding.severity} {finding.code}**" in section
        assert f"wirecheck explain {finding.code}" in section
    assert section.count("Remedy: ") == len(acted)


def test_what_is_open_is_said_with_its_reason():
    result = pair_result()
    section = markdown.render(result).split("## What is not proven")[1]
    gaps = story.open_questions(result)
    assert {run.kind for run in result.runs} >= {"skipped", "crashed"}
    for gap in gaps:
        assert f"| [{gap.probe}](#{gap.anchor}) |" in section


def test_the_verdict_comes_first():
    result = pair_result()
    assert markdown.render(result).splitlines()[2].startswith(f"**{str(result.verdict.outcome).upper()}.**")


def test_an_unfinished_check_certifies_nothing():
    text = markdown.render(pair_result(status="interrupted"))
    assert "nothing is certified" in text.splitlines()[2]


def test_a_single_model_has_no_pair():
    text = markdown.render(pair_result(b=None))
    assert "### The pair" not in text
    assert headings(text) == list(SECTIONS)


def test_every_link_within_the_page_lands_somewhere():
    page = html.render(pair_result())
    targets = re.findall(r'href="#([^"]+)"', page)
    assert "warnings" in targets
    assert all(f'id="{target}"' in page for target in targets)


def test_hostile_names_leave_the_document_whole():
    text = markdown.render(hostile_result())
    assert headings(text) == list(SECTIONS)
    assert tables_are_whole(text)
    assert "<script" not in html.render(hostile_result()).split("<body", 1)[1]


@settings(max_examples=30)
@given(st.text(alphabet=st.sampled_from(list("a|`\\<>*_[]#\n-&@!~ \u202e\x1b")), min_size=1, max_size=25))
def test_any_text_leaves_the_document_whole(text):
    rendered = markdown.render(hostile_result(text))
    assert headings(rendered) == list(SECTIONS)
    assert tables_are_whole(rendered)


def test_a_piece_stands_where_its_mark_is():
    marks = {key: words.mark(key) for key in ("open-1", "close", "e12")}
    report = f"# Page\n\n{marks['open-1']}\n\n| x |\n|---|\n| {marks['e12']}cell |\n\n{marks['close']}\n"
    pieces = {"open-1": "<details><summary>s</summary>", "close": "</details>", "e12": '<a id="e12"></a>'}
    page = html.page(report, title="t", mood="report", pieces=pieces)
    assert "<p>" not in page
    assert "<details><summary>s</summary>" in page
    assert '<td><a id="e12"></a>cell</td>' in page
    assert not words.MARK.search(page)
    with pytest.raises(ValueError, match="no piece for the marks close, e12"):
        html.page(report, title="t", mood="report", pieces={"open-1": ""})


def test_a_key_of_a_piece_is_plain():
    with pytest.raises(ValueError, match="is no key"):
        words.mark("Open 1")


def test_a_stranger_s_text_holds_no_mark():
    forged = words.mark("close")
    for text in (markdown.render(hostile_result(forged)), html.render(hostile_result(forged))):
        assert not words.MARK.search(text)
        assert "\ue000" not in text
        assert "e000close" in text


@pytest.mark.parametrize("outcome", ["compatible", "unproven", "incompatible"])
def test_the_page_carries_the_outcome_and_loads_nothing(outcome):
    page = html.render(pair_result(verdict=Verdict(outcome=outcome, strength=None, because=("so",))))
    assert f'<body class="{outcome}">' in page
    for loader in ("<script", "<link", "src=", "@import", "url("):
        assert loader not in page


def test_a_shallow_check_says_how_to_go_on():
    shallow = pair_result(command="wirecheck pair x y --depth inspected", policy=Policy(depth=Level.INSPECTED))
    assert costs.at_depth(shallow, Level.EXECUTED) == "wirecheck pair x y --depth executed"
    assert "wirecheck pair x y --depth executed" in markdown.render(shallow)
    assert costs.at_depth(pair_result(), Level.EXECUTED) == pair_result().command
