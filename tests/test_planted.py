"""The corpus of planted faults can fail: what is missed, misnamed or a false alarm is counted as such."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.planted import page
from tests.planted.cases import Harmless, Plant, nothing
from tests.planted.corpus import CASES, FAMILIES, PLANTS, tally
from tests.planted.trial import Bench, Seen, compare
from wirecheck.codes import CODES
from wirecheck.demo import demo_folders
from wirecheck.schema import Severity

SOUND = Seen(frozenset({("TOK05", "note", "a")}), "compatible", "compatible")
BLOCKED = Seen(SOUND.told | {("WGT05", "block", "a")}, "incompatible", "incompatible")
WARNED = Seen(SOUND.told | {("WGT12", "warn", "a")}, "compatible", "incompatible")
HARMLESS = Harmless(base="llama", what="other key order")


def plant(code: str, severity: str = "block") -> Plant:
    return Plant(base="llama", code=code, what="a fault", severity=Severity(severity))


@pytest.mark.parametrize(
    ("case", "seen", "kind", "wrong"),
    [
        (plant("WGT05"), BLOCKED, "found", ""),
        (plant("WGT07"), BLOCKED, "misnamed", ""),
        (plant("WGT05"), SOUND, "missed", "a planted block came out compatible"),
        (plant("WGT05", "warn"), BLOCKED, "misnamed", ""),
        (plant("WGT12"), WARNED, "misnamed", "a planted block came out compatible"),
        (plant("WGT12", "warn"), WARNED, "found", ""),
        (plant("WGT12", "warn"), SOUND, "missed", "a planted warning came out compatible with --strict"),
        (plant("TOK05", "note"), SOUND, "missed", ""),
        (HARMLESS, SOUND, "silent", ""),
        (HARMLESS, WARNED, "alarm", "the verdict was compatible, with --strict compatible"),
        (HARMLESS, Seen(SOUND.told | {("TPL05", "note", "a")}, "compatible", "compatible"), "alarm", ""),
    ],
)
def test_what_a_case_comes_to(case, seen, kind, wrong):
    result = compare(case, SOUND, seen)
    assert (result.kind, result.wrong_verdict) == (kind, wrong)


def test_a_warning_that_is_gone_is_an_alarm_too():
    assert compare(HARMLESS, WARNED, SOUND).gone == (("WGT12", "warn", "a"),)
    assert compare(HARMLESS, WARNED, SOUND).kind == "alarm"


def test_a_note_that_may_come_is_none():
    seen = Seen(SOUND.told | {("TPL05", "note", "a")}, "compatible", "compatible")
    assert compare(Harmless(base="llama", what="", notes=("TPL05",)), SOUND, seen).kind == "silent"


def test_the_page_counts_what_fails():
    rows = [
        (case, compare(case, SOUND, seen))
        for case, seen in (
            (plant("WGT05"), BLOCKED), (plant("WGT07"), BLOCKED), (plant("WGT05"), SOUND), (HARMLESS, WARNED),
        )
    ]  # fmt: skip
    assert tuple(vars(tally(rows)).values()) == (3, 1, 1, 1)
    text = page.render(rows)
    assert "| WGT | 3 | 1 | 1 | 1 | 33.3% |" in text
    assert "1 harmless changes: 0 silent, 1 false alarms." in text
    assert "- WGT05, llama: a fault: missed (a planted block came out compatible)." in text
    assert "recall 33.3%" in page.summary(rows)


def test_a_case_is_run_through_the_engine(tmp_path: Path):
    bench = Bench({"qwen": demo_folders()[1]}, tmp_path / "room")
    without = lambda m: m.remove("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")  # noqa: E731
    named = Plant(base="qwen", code="TOK01", what="", change=without)
    other = Plant(base="qwen", code="WGT01", what="", change=without)
    idle = Plant(base="qwen", code="TOK01", what="", change=nothing)
    assert [bench.run(case).kind for case in (named, other, idle)] == ["found", "misnamed", "missed"]
    alarm = Harmless(base="qwen", what="", change=lambda m: m.edit("generation_config.json", eos_token_id=5))
    quiet = Harmless(base="qwen", what="", change=lambda m: m.put("README.md", "# A model"))
    assert [bench.run(case).kind for case in (alarm, quiet)] == ["alarm", "silent"]
    assert (demo_folders()[1] / "tokenizer.json").is_file()


def test_the_corpus_is_as_large_as_was_asked_and_says_nothing_twice():
    families = {case.family for case in PLANTS}
    assert families == set(FAMILIES)
    assert len(PLANTS) >= 150
    assert len(CASES) - len(PLANTS) >= 45
    said = [(case.base, case.beside, case.depth, case.what) for case in CASES]
    assert len(said) == len(set(said))
    assert {case.code for case in PLANTS} <= set(CODES)


def test_the_committed_page_is_of_this_corpus():
    text = (Path(__file__).parents[1] / "docs" / "soundness.md").read_text(encoding="utf-8")
    (counts,) = re.findall(r"\| \*\*all\*\* \| (\d+) \| (\d+) \|", text)
    assert int(counts[0]) == len(PLANTS)
    assert int(counts[1]) >= 0.99 * len(PLANTS)
    assert f"{len(CASES) - len(PLANTS)} harmless changes: {len(CASES) - len(PLANTS)} silent, 0 false alarms." in text
