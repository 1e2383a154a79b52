"""Text that would steer a terminal, hide in a report, be a formula in a table, or reach out of a template."""

from __future__ import annotations

import csv
import io
import unicodedata

import pytest
from rich.console import Console

from tests.factories import hostile_result
from tests.strangers import faces
from tests.test_templating import one
from wirecheck.templating import Hostile, Refused, Rendered
from wirecheck.views import console, junit, matrix, sarif
from wirecheck.views.words import visible

UNSEEN = [
    *("\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u061c", "\u180e"),  # of no width
    *("\u202a", "\u202e", "\u2066", "\u2069", "\u200f"),  # which way to read
    *("\u115f", "\u1160", "\u3164", "\uffa0", "\u2800", "\u034f", "\ufe0f", "\U000e0100", "\u17b4"),  # fillers
    *("\x00", "\x07", "\x08", "\r", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\U000e0041", "\ud800", "\ue000"),
]


@pytest.mark.parametrize("char", UNSEEN, ids=[f"{ord(char):04x}" for char in UNSEEN])
def test_what_shows_nothing_is_spelled_out(char):
    assert visible(f"a{char}b") == f"a\\u{ord(char):04x}b"


@pytest.mark.parametrize("text", ["Ġhello", "naïve", "日本語", "❤ 👍🏽", "नमस्ते", "안녕", "e\u0301", "a b\u00a0c"])
def test_words_of_people_are_shown_as_they_are(text):
    assert visible(text) == text


def _shown(text: str) -> str:
    terminal = Console(force_terminal=True, width=200, file=io.StringIO(), highlight=False, color_system=None)
    with terminal.capture() as shown:
        console.show(hostile_result(text), terminal)
    return shown.get()


@pytest.mark.parametrize(
    "text", ["[link=https://evil.example]here[/link]", "[bold red]x[/]", "[/]", "[@click=app.quit]x[/]", ":smile:"]
)
def test_markup_is_no_markup_on_a_terminal(text):
    shown = _shown(text)
    assert text in shown
    assert "\x1b]8" not in shown


@pytest.mark.parametrize("char", ["\x1b]8;;https://evil.example\x07", "\x1b[2J", "\u202e", "\x9b31m", "\r", "\u3164"])
def test_no_report_holds_what_cannot_be_seen(char):
    text = f"name{char}name"
    pages = [page for both in faces(text).values() for page in both]
    pages += [junit.render(hostile_result(text)), sarif.render(hostile_result(text)), _shown(text)]
    for page in pages:
        assert "name" in page
        assert not [one for one in char if one in page and not one.isprintable()]
        assert not [one for one in page if unicodedata.category(one) in ("Cc", "Cf") and one not in "\n\t\x1b"]


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(1)", " =1"]
)
def test_no_cell_of_a_table_is_a_formula(text):
    (row,) = csv.reader(io.StringIO(matrix.csv_line([text, 7])))
    assert row[1] == "7"
    assert row[0].lstrip()[:1] not in ("=", "+", "-", "@")


REACHES = [
    "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ joiner.__init__['__globals__'] }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}{{ self.__dict__ }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f')|attr('mro') }}",
    "{{ ('{0.__class__.__init__.__globals__}').format(raise_exception) }}",
    "{{ '{x.__class__}'.format_map({'x': 1}) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(1) }}",
    "{{ [raise_exception]|map(attribute='__globals__')|list }}",
    "{{ [raise_exception]|map('attr', '__globals__')|list }}",
    "{{ [raise_exception]|groupby('__globals__')|map('first')|list }}",
    "{{ tojson.__globals__ }}{{ raise_exception.__code__ }}{{ strftime_now.__closure__ }}",
    "{% include '/etc/hostname' %}",
    "{% import '/etc/hostname' as x %}{{ x }}",
    "{% from 'os' import system %}{{ system('id') }}",
    "{% extends '/etc/hostname' %}",
    "{% generation %}{{ ''.__class__ }}{% endgeneration %}",
    "{% set x = messages.__getattribute__ %}{{ x('__class__') }}",
    "{{ messages.clear() }}{{ messages }}",
    "{{ tools.__init__ }}{{ documents.__init__ }}{{ caller.__init__ }}{{ loop.__init__ }}",
]
_LEAKS = ("<class", "<function", "<module", "builtins", "subclass", "uid=", "<code", "<method", "{'__name__'", "sys")


@pytest.mark.parametrize("template", REACHES)
def test_a_template_reaches_nothing(template):
    outcome = one(template)
    assert isinstance(outcome, Hostile | Refused | Rendered)
    if isinstance(outcome, Rendered):
        assert not [leak for leak in _LEAKS if leak in outcome.text], outcome.text
