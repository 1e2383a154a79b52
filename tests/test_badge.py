"""The badge of a gate: no stronger than the result, well-formed whatever it holds, to be read by everybody."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import HOSTILE
from tests.gates import acceptance, accepting, false_expectation, gate, lost, ran, row
from wirecheck.schema import Level, Policy
from wirecheck.views import badge
from wirecheck.views import gate as view
from wirecheck.views.words import visible

EXECUTED = Policy(required=Level.EXECUTED)


@pytest.mark.parametrize(
    ("found", "message", "color"),
    [
        (gate(row(ran(level=Level.EXECUTED), policy=EXECUTED)), "compatible (executed)", "brightgreen"),
        (gate(row(ran(level=Level.EXECUTED)), row(ran(), b="four")), "compatible (inspected)", "brightgreen"),
        (
            gate(row(ran(false_expectation()), policy=accepting("CFG11", "a")), accepted=(acceptance("used"),)),
            "compatible (inspected), 1 accepted",
            "brightgreen",
        ),
        (gate(row(ran()), row(ran(false_expectation()), b="four")), "incompatible", "red"),
        (gate(row(ran()), lost("three: gone")), "could not check", "orange"),
        (gate(row(ran()), row(ran(), policy=EXECUTED, b="four")), "unproven", "yellow"),
        (gate(row(ran()), lost("late", outcome="not-run")), "not run", "lightgrey"),
        (gate(), "not run", "lightgrey"),
        (gate(row(ran()), status="interrupted"), "not finished", "lightgrey"),
        (gate(row(ran()), status="started"), "not finished", "lightgrey"),
    ],
)
def test_a_badge_says_no_more_than_the_result(found, message, color):
    told = json.loads(badge.render_json(found))
    assert told == {"schemaVersion": 1, "label": "wirecheck", "message": message, "color": color}
    root = ET.fromstring(badge.render_svg(found))
    assert root.get("aria-label") == f"wirecheck: {message}"
    assert root.find("{*}desc").text == visible(view.sentence(found))
    assert [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")] == ["wirecheck", message]
    assert root.findall("{*}g")[0].findall("{*}rect")[1].get("fill") == badge.PAINT[colour_of(color)].shade


def colour_of(color: str) -> str:
    return next(outcome for outcome, paint in badge.PAINT.items() if paint.name == color)


@pytest.mark.parametrize("shade", [paint.shade for paint in badge.PAINT.values()])
def test_white_text_can_be_read_on_every_colour(shade):
    parts = [int(shade[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red_, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    assert 1.05 / (0.2126 * red_ + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.5  # WCAG AA


@given(st.text(), st.text(min_size=1))
def test_a_badge_of_any_text_is_well_formed_and_self_contained(label, message):
    text = badge.svg(label, message, shade="#000000", about=message + HOSTILE)
    root = ET.fromstring(text)
    assert root.find("{*}title").text == f"{visible(label)}: {visible(message)}"
    shown = list(root.iter("{http://www.w3.org/2000/svg}text"))
    assert int(root.get("width")) >= sum(int(one.get("textLength")) for one in shown)
    assert "href" not in text.replace(HOSTILE, "").replace(label, "").replace(message, "")
    tags = {element.tag.partition("}")[2] for element in root.iter()}
    assert tags == {"svg", "title", "desc", "clipPath", "rect", "g", "text"}


def test_widths_are_those_of_letters():
    px = badge.text_px
    assert px("") == 0
    assert px("illi") < px("noun") < px("WWWW")
    assert px("日本") == 22
    assert px("e\u0301") == px("e")
    assert 50 <= px("wirecheck") <= 62
    assert px("compatible (executed)") > px("compatible")
