"""The faces of the table of architectures: the whole text, and what strangers' words do to it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from markdown_it import MarkdownIt
from pydantic import ValidationError

from tests.factories import HOSTILE
from wirecheck.architecture_records import Architecture, ArchitectureCheck, ArchitectureRun, ArchitectureTable, Trouble
from wirecheck.schema import Environment, Evidence, Level
from wirecheck.views import architectures as view

ENVIRONMENT = Environment(python="3.11.7", platform="Linux", packages=(("torch", "2.13"), ("transformers", "5.23.0")))


def check(code: str, severity: str, claim: str) -> ArchitectureCheck:
    seen = Evidence(level=Level.SIMULATED, source="twin", observed=1.5)
    return ArchitectureCheck(code=code, severity=severity, claim=claim, evidence=() if severity == "ok" else (seen,))


def row(kind: str, name: str, *checks: ArchitectureCheck, **more: Any) -> Architecture:
    words = {"kept": ("attention GQA",), "changed": ("hidden_size 4096 -> 64",)} | more
    return Architecture(model_type=kind, class_name=name, checks=checks, parameters=12_345, seconds=1.25, **words)


def table(*rows: Architecture) -> ArchitectureTable:
    codes = (("EMB01", "embeds-refused"), ("EMB06", "padding-changes-logits"))
    made = {"command": "wirecheck architectures", "seed": 0, "max_rows": 1024, "environment": ENVIRONMENT}
    return ArchitectureTable(codes=codes, rows=rows, **made)


def mixed() -> ArchitectureTable:
    skipped = ArchitectureRun(probe="embeds-use", kind="skipped", why="moot after EMB01 embeds-refused (a)")
    sound = check("EMB01", "ok", "A takes embeds.")
    return table(
        row("a", "A4LM", sound, check("EMB06", "note", "Padding changes A4LM's logits.")),
        row("b", "B4LM", sound, check("EMB06", "note", "Padding changes B4LM's logits."), given=("is_decoder = True",)),
        row("c", "C4LM", sound, check("EMB06", "ok", "Padding is sound.")),
        row("d", "D4LM", check("EMB01", "block", "D4LM raises when given embeds."), runs=(skipped,)),
        Architecture(
            model_type="e",
            given=("head_dim = 128",),
            default_refused="TypeError: no head_dim",
            trouble=Trouble(cause="upstream", words="TypeError: still none"),
            seconds=0.1,
        ),
    )


def test_the_whole_markdown() -> None:
    text = view.render(mixed())
    head, types, meaning, broken, given, twins, again = re.split(r"^## .*\n", text, flags=re.MULTILINE)
    assert (
        "transformers 5.23.0: of 5 causal model types, 4 have a twin that was run; 1 pass every check, 1 cannot be fed "
        "embeds as a wire does, 1 could not be built." in head
    )
    assert "| EMB01 | embeds-refused | 3 |  |  | 1 | 1 |" in head
    assert "| EMB06 | padding-changes-logits | 1 | 2 |  |  | 2 |" in head
    assert types.strip().splitlines()[2:] == [
        "| a | A4LM | ✓ | n | 1.2 |",
        "| b | B4LM | ✓ | n | 1.2 |",
        "| c | C4LM | ✓ | ✓ | 1.2 |",
        "| d | D4LM | **B** | - | 1.2 |",
        "| e | not built | - | - | 0.1 |",
    ]
    assert "- **note** (2 types: a, b): Padding changes the class's logits." in meaning
    assert "- **block** (1 type: d): The class raises when given embeds." in meaning
    assert "- **e**: transformers' own class or default config: TypeError: still none" in broken
    assert "- d, embeds-use: moot after EMB01 embeds-refused (a)" in broken
    assert "- `is_decoder = True` (b). The defaults alone run, as another kind of model.\n" in given
    assert "- `head_dim = 128` (e). The defaults alone raise: TypeError: no head_dim\n" in given
    assert "| a | 12,345 | attention GQA | hidden_size 4096 -\\> 64 |" in twins
    assert "| e |" not in twins
    assert "Python 3.11.7 on Linux; torch 2.13, transformers 5.23.0." in again


def test_nothing_found_is_said() -> None:
    text = view.render(table(row("c", "C4LM", check("EMB01", "ok", "sound"))))
    assert "1 pass every check" in text
    assert "## Rows that are not whole\n\nNone.\n" in text
    assert "## What was set beside the defaults\n\nNothing.\n" in text


def test_an_empty_table_renders() -> None:
    assert "of 0 causal model types" in view.render(table())
    assert view.render_html(table()).endswith("</html>\n")


def test_the_terminal_has_the_counts_and_the_broken_rows() -> None:
    shown = view.lines(mixed())
    assert shown[0].startswith("transformers 5.23.0: of 5")
    assert "EMB01  embeds-refused          3 ok, 1 block, 1 not asked" in shown
    assert shown[-1] == "e: transformers' own class or default config: TypeError: still none"
    assert len(view.lines(table(row("c", "C4LM", check("EMB01", "ok", "sound"))))) == 4


def test_words_of_strangers_break_no_table_and_run_nothing() -> None:
    hostile = row("h", HOSTILE, check("EMB01", "warn", HOSTILE), kept=(HOSTILE,), changed=(HOSTILE,), given=(HOSTILE,))
    text = view.render(table(hostile))
    page = view.render_html(table(hostile))
    widths = {len(tokens) for tokens in tables(text)}
    assert widths == {7, 5, 4}
    assert "<b>" not in page
    assert 'href="https://evil.example"' not in page
    assert "\x1b" not in text + page


def tables(text: str) -> list[list[str]]:
    """The cells of every table row, as a markdown reader sees them."""
    rows: list[list[str]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            rows[-1].append(token.type)
    return rows


def test_the_gravest_check_of_a_code_counts() -> None:
    two = row("a", "A4LM", check("EMB01", "ok", "one"), check("EMB01", "warn", "two"), check("EMB01", "note", "three"))
    found = two.check("EMB01")
    assert found is not None
    assert found.claim == "two"
    assert two.check("EMB06") is None


def test_rows_are_one_per_type_in_order() -> None:
    a, b = row("a", "A4LM"), row("b", "B4LM")
    for rows in ((b, a), (a, a)):
        with pytest.raises(ValidationError, match="one per type"):
            table(*rows)


def test_a_table_is_read_as_it_was_written() -> None:
    assert ArchitectureTable.model_validate_json(mixed().model_dump_json()) == mixed()
