"""A gate against an earlier one: what is new, worse, known, gone. It excuses nothing, and in doubt a thing is new."""

from __future__ import annotations

import json
import shutil
from itertools import permutations

import pytest
from hypothesis import given

from tests.factories import pair_result
from tests.gates import (
    WHERE,
    acceptance,
    accepting,
    commands,
    crashed,
    false_expectation,
    gate,
    lost,
    note,
    ran,
    row,
    skipped,
    warning,
)
from tests.strategies import gate_rows
from wirecheck import cli_gate
from wirecheck.baseline import NEWS, compare, heard
from wirecheck.cli_output import to_json
from wirecheck.demo import demo_folders
from wirecheck.gate_records import GateResult
from wirecheck.gate_troubles import Trouble
from wirecheck.schema import CheckedModel, Level, Policy
from wirecheck.views import annotations, code_quality
from wirecheck.views import gate as view
from wirecheck.views import since as news


def states(now: GateResult, then: GateResult) -> list[tuple[str, str]]:
    """Code and state of each trouble that is more than a sound check."""
    told = heard(now, compare(now, then, "old.json"))
    return [(one.code, state) for one, state in told if one.weight != "sound"]


def only(*now, then=(), **changes) -> str:
    """The state of the first trouble of one row, against another row's runs."""
    return states(gate(row(*now, **changes)), gate(row(*then)))[0][1]


# --- what is the same --------------------------------------------------------------------------------------------


def test_the_same_is_unchanged_and_other_figures_are_updated():
    then = (ran(false_expectation("It is 31,999, not 32,000.")),)
    assert only(*then, then=then) == "unchanged"
    assert only(ran(false_expectation("It is 7, not 32,000.")), then=then) == "updated"
    digest = (ran(false_expectation("It is of 0123456789ab.")),)
    assert only(ran(false_expectation("It is of ba9876543210.")), then=digest) == "updated"


@pytest.mark.parametrize(
    ("claim", "wording"),
    [
        ("One step peaks at 47.38 GB, 1,024 of 2e-5.", "One step peaks at # GB, # of #."),
        ("vocab_size is 32768, not 32000.", "vocab_size is #, not #."),
        ("at deadbeef00 now", "at # now"),
        ("model-00001-of-00002.safetensors has another digest", "model-00001-of-00002.safetensors has another digest"),
        ("layers.12.mlp.weight and x7 differ", "layers.12.mlp.weight and x7 differ"),
    ],
)
def test_figures_are_left_out_and_names_are_not(claim, wording):
    assert Trouble("r", ("a",), "", "C", "n", "p", "note", claim).wording == wording


def test_other_words_are_new():
    """Two expectations of a model share code, model and probe: one that fails newly is not the one that was known."""
    then = (ran(false_expectation("vocab_size is 1, not 2.")),)
    assert only(ran(false_expectation("hidden_size is 1, not 2.")), then=then) == "new"


@pytest.mark.parametrize("what", ["code", "model", "probe", "pair", "name behind the model"])
def test_another_identity_is_new(what):
    then = (ran(false_expectation("It is so.")),)
    match what:
        case "code":
            assert only(ran(warning("It is so.", "a")), then=then) == "new"
        case "model":
            assert only(ran(false_expectation("It is so.", "b"), subject="b"), then=then) == "new"
        case "probe":
            assert only(ran(false_expectation("It is so."), probe="weights"), then=then) == "new"
        case "pair":
            assert only(*then, then=then, b="three") == "new"
        case _:
            other = CheckedModel(ref="org/other", name="org/other", kind="hub", commit="0" * 40)
            assert only(*then, then=then, behind=other) == "new"


def test_another_commit_is_the_same():
    other = pair_result().a.model_copy(update={"commit": "f" * 40})
    then = (ran(false_expectation()),)
    assert only(*then, then=then, behind=other) == "unchanged"


@pytest.mark.parametrize(
    ("then", "now", "state"),
    [("note", "warn", "worse"), ("warn", "note", "updated"), ("ok", "warn", "worse"), ("warn", "ok", None)],
)
def test_graver_is_worse(then, now, state):
    found = states(gate(row(ran(warning(severity=now)))), gate(row(ran(warning(severity=then)))))
    assert found == ([("TOK05", state)] if state else [])


def test_what_was_accepted_and_no_longer_is_is_worse():
    blocked, taken = row(ran(false_expectation())), row(ran(false_expectation()), policy=accepting("CFG11", "a"))
    assert states(gate(blocked), gate(taken)) == [("CFG11", "worse")]
    assert states(gate(taken), gate(blocked)) == [("CFG11", "updated")]


def test_a_warning_that_is_refused_now_is_worse():
    strict = Policy(required=Level.INSPECTED, strict=True)
    assert only(ran(warning(subject="a")), then=(ran(warning(subject="a")),), policy=strict) == "worse"


def test_one_more_of_a_kind_is_new():
    two = [false_expectation(f"It is {n}.") for n in (1, 2)]
    assert states(gate(row(ran(*two))), gate(row(ran(two[1])))) == [("CFG11", "new"), ("CFG11", "unchanged")]


def test_no_order_of_findings_makes_one_worse():
    then = gate(row(ran(warning("It is 1."), warning("It is 2.", severity="note"))))
    now = [warning("It is 3."), warning("It is 4.", severity="note")]
    for order in permutations(now):
        assert {state for _, state in states(gate(row(ran(*order))), then)} == {"updated"}


# --- rows without an answer --------------------------------------------------------------------------------------


def test_open_questions():
    then = gate(row(ran(), skipped("no weights (3 files)", level=Level.INSPECTED)))
    again = gate(row(ran(), skipped("no weights (4 files)", level=Level.INSPECTED)))
    assert states(again, then) == [("unproven", "updated")]
    broken = gate(row(ran(), crashed("no weights (3 files)", level=Level.INSPECTED)))
    assert states(broken, then) == [("unproven", "new")]
    one_more = gate(row(ran(), *(skipped("no weights (3 files)", p, level=Level.INSPECTED) for p in ("values", "x"))))
    assert states(one_more, then) == [("unproven", "unchanged"), ("unproven", "new")]


def test_rows_that_were_not_checked():
    gone = lost("three: no folder ./three")
    assert states(gate(gone), gate(gone)) == [("could-not-check", "unchanged")]
    assert states(gate(gone), gate(row(ran(), b="three"))) == [("could-not-check", "new")]
    late = lost("no time was left", outcome="not-run")
    assert states(gate(late), gate(gone)) == [("not-run", "new")]


@given(gate_rows(), gate_rows())
def test_a_pair_that_got_worse_is_always_told(now, then):
    since = compare(gate(now), gate(then), "old.json")
    told = [state for one, state in heard(gate(now), since) if one.weight == "refuses" and state in NEWS]
    if now.outcome != "compatible" and then.outcome == "compatible":
        assert told
    assert states(gate(now), gate(now)) == [(code, "unchanged") for code, _ in states(gate(now), gate(now))]


# --- what is no longer found -------------------------------------------------------------------------------------


def test_gone_is_said_only_where_the_question_was_asked_again():
    then = gate(row(ran(false_expectation(), note()), ran(warning(), probe="tokenizer", subject="b")))
    now = gate(row(ran(), skipped("no tokenizer", probe="tokenizer")))
    (told,) = compare(now, then, "old.json").rows
    assert [one.code for one in told.gone] == ["CFG11", "EMB10"]
    assert [one.code for one in told.unasked] == ["TOK05"]
    (lost_now,) = compare(gate(lost("late", b="two", outcome="not-run")), then, "old.json").rows
    assert (lost_now.gone, len(lost_now.unasked)) == ((), 3)


# --- what is shown -----------------------------------------------------------------------------------------------

THEN = gate(
    row(ran(false_expectation(), warning("It was so.", "a")), ran(warning("It is 1."), probe="tokenizer", subject="b")),
    row(ran(), b="three"),
    row(ran(), b="five"),
    accepted=(acceptance("expired", "TOK05"),),
)
NOW = gate(
    row(ran(false_expectation(), note()), ran(warning("It is 2."), probe="tokenizer", subject="b")),
    row(ran(false_expectation()), b="three"),
    row(ran(warning(subject="a")), b="four"),
    accepted=(acceptance("expired", "TOK05"), acceptance("unused", "TOK06")),
)
SINCE = compare(NOW, THEN, "old.json")


def test_lines():
    assert news.lines(NOW, SINCE) == (
        "Since old.json, of what blocks or warns: 2 new, 2 known, 1 no longer found.",
        "one + three: compatible then, incompatible now",
        "one + four: not in the baseline, compatible now",
        "new: CFG11 on one in one + three: vocab_size is 31,999, not 32,000.",
        "new: TOK05 on one in one + four: There is no pad token.",
        "and 1 note, new or worse",
        "1 known trouble that keeps the gate from passing",
        "no longer asked: one + five",
    )
    same = compare(THEN, THEN, "old.json")
    assert news.headline(THEN, same) == "Since old.json, of what blocks or warns: 0 new, 3 known."
    started = THEN.model_copy(update={"status": "interrupted"})
    assert "(which was interrupted, not finished)" in news.headline(NOW, compare(NOW, started, "old.json"))


def test_every_report_and_the_terminal_tell_it():
    headline = "of what blocks or warns: 2 new, 2 known, 1 no longer found."
    for render in (view.render, view.render_html, view.render_junit):
        assert headline in render(NOW, SINCE)
        assert "no longer found" not in render(NOW)
    assert headline.split(maxsplit=1)[0] in cli_gate.shown(NOW, SINCE)
    assert "Since old.json" not in cli_gate.shown(NOW)


def test_annotations_and_gitlab_list_only_what_is_new():
    told = commands(annotations.render(NOW, WHERE, SINCE))
    assert [(name, properties["title"].split(":")[0]) for name, properties, _ in told] == [
        ("error", "CFG11 expectation-failed"),
        ("warning", "TOK05 no-pad"),
        ("warning", "acceptance unused"),
        ("notice", "wirecheck gate"),
    ]
    assert told[0][2].split("\n")[1] == "in one + three"
    assert "2 new, 2 known" in told[-1][2]
    whole, new = (json.loads(code_quality.render(NOW, WHERE, since)) for since in (None, SINCE))
    assert [one["check_name"] for one in new] == ["EMB10", "CFG11", "TOK05"]
    assert [one for one in whole if one in new] == new  # the fingerprints are the same
    assert len(whole) == 5


def test_sarif_has_baseline_states(validator):
    log = json.loads(view.render_sarif(NOW, SINCE))
    validator.validate(log)
    shown = [[(r["ruleId"], r["baselineState"]) for r in run["results"]] for run in log["runs"]]
    assert shown == [
        [("CFG11", "unchanged"), ("EMB10", "new"), ("TOK05", "updated"), ("TOK05", "absent")],
        [("CFG11", "new")],
        [("TOK05", "new")],
    ]
    absent = log["runs"][0]["results"][-1]
    assert (absent["kind"], absent["level"]) == ("pass", "none")
    assert absent["message"]["text"] == "No longer found: It was so."
    assert absent["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "org/alpha"
    for run in log["runs"]:
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        assert all(rules[r["ruleIndex"]] == r["ruleId"] for r in run["results"])
        prints = [r["partialFingerprints"]["wirecheck/v1"] for r in run["results"]]
        assert len(set(prints)) == len(prints)
        assert run["properties"]["baseline"] == "old.json"
    plain = json.loads(view.render_sarif(NOW))
    assert not any("baselineState" in r for run in plain["runs"] for r in run["results"])


def test_sarif_of_what_got_worse_lost_or_gone_for_good(validator):
    now = gate(row(ran(warning())), lost("three: gone"), row(ran(), b="four"))
    then = gate(row(ran(warning(severity="note"))), row(ran(note()), b="three"), row(ran(note()), b="four"))
    log = json.loads(view.render_sarif(now, compare(now, then, "old.json")))
    validator.validate(log)
    assert [[(r["ruleId"], r["baselineState"]) for r in run["results"]] for run in log["runs"]] == [
        [("TOK05", "updated")],
        [("CFG03", "new"), ("EMB10", "absent")],
        [],
    ]


def test_what_is_absent_stands_at_the_model_it_was_found_in():
    other = CheckedModel(ref="org/other", name="org/other", kind="hub", commit="0" * 40)
    then, now = gate(row(ran(note()))), gate(row(ran(note()), behind=other))
    was, is_ = (json.loads(view.render_sarif(*told))["runs"] for told in ((then,), (now, compare(now, then, "o"))))
    (before,), (new, absent) = was[0]["results"], is_[0]["results"]
    assert (new["baselineState"], absent["baselineState"]) == ("new", "absent")
    assert absent["partialFingerprints"] == before["partialFingerprints"] != new["partialFingerprints"]
    assert absent["locations"] == before["locations"] != new["locations"]


# --- the option --------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A wirecheck.toml of one demo model whose expectation is false."""
    monkeypatch.setenv("WIRECHECK_CACHE", str(tmp_path / "cache"))
    shutil.copytree(demo_folders()[0], tmp_path / "model")
    path = tmp_path / "wirecheck.toml"
    path.write_text('[models.one]\nid = "./model"\nexpect = { vocab_size = 32000 }\n[gate]\nrequire = "inspected"\n')
    return path


def test_a_known_block_still_blocks(file, run, tmp_path):
    old = tmp_path / "old.json"
    assert run("gate", file, "--offline", "--json", old)[0] == 1
    code, out, _ = run("gate", file, "--offline", "--baseline", old, "--report", tmp_path / "g.codequality.json")
    assert code == 1
    assert "0 new, 1 known" in out
    assert "1 known trouble that keeps the gate from passing" in out
    assert json.loads((tmp_path / "g.codequality.json").read_text()) == []
    file.write_text(file.read_text().replace("32000 }", "32000, hidden_size = 7 }"))
    code, out, _ = run("gate", file, "--offline", "--baseline", old, "--json", old)
    assert code == 1
    assert "1 new, 1 known" in out
    assert len(cli_gate.read_gate_result(old).rows[0].why) == 2  # read before it was written


@pytest.mark.parametrize("text", [None, "", "{}", "[1]", "{not json", "\xff"])
def test_a_baseline_that_is_no_gate_result_is_refused(file, run, tmp_path, text):
    old = tmp_path / "old.json"
    if text is not None:
        old.write_bytes(text.encode("latin-1"))
    code, _, err = run("gate", file, "--offline", "--baseline", old)
    assert code == 2
    assert "no result of `wirecheck gate`" in err
    assert "wirecheck gate --json" in err


def test_a_result_of_a_pair_is_no_baseline(file, run, tmp_path):
    (tmp_path / "pair.json").write_text(to_json(pair_result()))
    assert run("gate", file, "--offline", "--baseline", tmp_path / "pair.json")[0] == 2


def test_the_help_says_that_it_excuses_nothing(run):
    _, out, _ = run("gate", "--help")
    assert "[[gate.accepted]]" in out
    assert "still blocks" in " ".join(out.split())
