"""Text from strangers stays one cell of one row, whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirecheck.views.html import markdown_reader
from wirecheck.views.words import NOTHING, human, human_bytes, markdown_code, markdown_text, plural, visible

MARKDOWN = markdown_reader()

hostile = st.text(
    alphabet=st.sampled_from([*list("ab |`\\<>*_[]()!#~-+\n\r\t&;:/@.1"), "\u202e", "\x1b", "\u200b", "é", "▁"]),
    max_size=30,
)


def cells(row: str) -> list:
    """The inline tokens of each cell of a one-row table."""
    tokens = MARKDOWN.parse(f"| x | y | z |\n|---|---|---|\n| 1 | {row} | 3 |\n")
    body = next(i for i, token in enumerate(tokens) if token.type == "tbody_open")
    return [token for token in tokens[body:] if token.type == "inline"]


@given(hostile)
def test_text_stays_one_cell_and_reads_as_it_was(text):
    row = cells(markdown_text(text))
    assert len(row) == 3
    shown = "".join(child.content for child in row[1].children)
    assert shown == visible(text)
    assert {child.type for child in row[1].children} <= {"text", "text_special"}


@given(hostile)
def test_code_stays_one_cell_and_one_span(text):
    row = cells(markdown_code(text))
    assert len(row) == 3
    assert [child.type for child in row[1].children] == ["code_inline"]


@pytest.mark.parametrize("token", ["<|im_end|>", "<s>", "`", "``a`", "a|b", " ", "\n", "[INST]", "<br>", "\\|"])
def test_a_special_token_is_shown_whole(token):
    (child,) = cells(markdown_code(token))[1].children
    assert child.content.replace("⏎", "\n").rstrip("␠") in (token, token.strip())


@pytest.mark.parametrize("char", ["\x1b[31m", "\u202e", "\u200b", "\x00", "\ufeff"])
def test_control_and_bidi_characters_are_spelled_out(char):
    assert char[0] not in visible(f"a{char}b")
    assert f"\\u{ord(char[0]):04x}" in visible(char)


def test_lines_are_joined_visibly():
    assert visible("a\nb") == "a⏎b"


def test_a_mention_is_not_a_mention():
    assert markdown_text("@everyone look") == f"@{NOTHING}everyone look"
    assert markdown_text("org/name@main") == "org/name@main"


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "—"), (True, "yes"), (False, "no"), (128256, "128,256"), (0.013579, "0.01358"), ("a\tb", "a\\u0009b")],
)
def test_human(value, words):
    assert human(value) == words


def test_human_bytes_gives_both_units():
    assert human_bytes(16_060_522_496) == "16.06 GB (14.96 GiB)"
    assert human_bytes(999_999) == "999,999 B"
    assert human_bytes(-5 * 10**9) == "-5.00 GB (-4.66 GiB)"


def test_plural():
    assert (plural(1, "probe"), plural(0, "probe")) == ("1 probe", "0 probes")
