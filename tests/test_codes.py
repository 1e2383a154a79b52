"""The table of codes against CHECKS.md, and the quality of its words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.factories import SHARED, needs_assets
from wirecheck.codes import CODES
from wirecheck.codes.cfg import CFG
from wirecheck.codes.emb import EMB
from wirecheck.codes.env import ENV
from wirecheck.codes.hub import HUB
from wirecheck.codes.mem import MEM
from wirecheck.codes.par import PAR
from wirecheck.codes.tok import TOK
from wirecheck.codes.tpl import TPL
from wirecheck.codes.wgt import WGT
from wirecheck.codes.wir import WIR

FAMILIES = {
    "CFG": (CFG, 13),
    "WGT": (WGT, 14),
    "TOK": (TOK, 10),
    "TPL": (TPL, 10),
    "EMB": (EMB, 13),
    "WIR": (WIR, 19),
    "PAR": (PAR, 5),
    "MEM": (MEM, 4),
    "HUB": (HUB, 5),
    "ENV": (ENV, 2),
}
ROW = re.compile(r"^\| ([A-Z]{3}\d\d) \| ([a-z0-9-]+) \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)


def published() -> dict[str, tuple[str, str, str]]:
    """code -> (name, severity, level) as CHECKS.md gives them."""
    text = (SHARED / "CHECKS.md").read_text(encoding="utf-8")
    return {code: (name, severity.strip(), level.strip()) for code, name, severity, level in ROW.findall(text)}


ADDED = {"CFG13", "EMB11", "EMB12", "EMB13", "ENV02", *(f"WIR{number}" for number in range(13, 20))}
"""Codes of ours beyond CHECKS.md (docs/decisions/0005, 0012, 0014 and 0016)."""


@needs_assets
def test_the_table_is_that_of_the_checks():
    names = {code: entry.name for code, entry in CODES.items() if code not in ADDED}
    assert names == {code: row[0] for code, row in published().items()}
    assert set(CODES) >= ADDED


@needs_assets
@pytest.mark.parametrize("code", sorted(set(CODES) - {"HUB01", "HUB02", "HUB03"} - ADDED))
def test_severity_and_level_are_those_of_the_checks(code):
    _, severity, level = published()[code]
    assert (CODES[code].severity.value, CODES[code].level.value) == (severity.split(" / ")[0], level)


def test_no_entry_has_changed():
    """Of the vocabulary that users' gates, baselines and acceptances name; kept beside this file, changed by hand."""
    kept = (Path(__file__).parent / "golden" / "codes.txt").read_text(encoding="utf-8").splitlines()
    fields = ("code", "name", "family", "severity", "level", "reference")
    assert [" ".join(str(getattr(entry, field) or "-") for field in fields) for entry in CODES.values()] == kept


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_families_are_numbered_without_gap_or_double(family):
    entries, size = FAMILIES[family]
    assert [entry.code for entry in entries] == [f"{family}{number:02}" for number in range(1, size + 1)]
    assert {entry.family for entry in entries} == {family}


def test_no_code_and_no_name_twice():
    entries = [entry for family, _ in FAMILIES.values() for entry in family]
    assert (
        len({entry.code for entry in entries}) == len({entry.name for entry in entries}) == len(entries) == len(CODES)
    )


@pytest.mark.parametrize("entry", CODES.values(), ids=lambda entry: entry.code)
def test_words_are_sentences_and_actions(entry):
    assert entry.sentence[0].isupper() or entry.sentence.startswith("`")
    assert entry.sentence.endswith(".")
    assert entry.remedy[0].isupper()
    assert entry.remedy.rstrip("`").endswith((".", "?"))
    assert "wirecheck explain" not in entry.remedy
    assert len(entry.sentence.split()) >= 6
    assert len(entry.remedy.split()) >= 5
    assert entry.remedy.count("`") % 2 == 0


def test_no_sentence_and_no_reference_stands_for_two_codes():
    sentences = [entry.sentence for entry in CODES.values()]
    references = [entry.reference for entry in CODES.values() if entry.reference]
    assert len(set(sentences)) == len(sentences)
    assert len(set(references)) == len(references)
    assert all(re.fullmatch(r"[\w.-]+#\d+(, [\w.-]+#\d+)*", reference) for reference in references)
