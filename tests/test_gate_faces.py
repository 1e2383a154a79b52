"""What a gate shows where CI people look: annotations, step summary, GitLab's report, the faces of a name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import HOSTILE, hostile_result
from tests.gates import (
    WHERE,
    acceptance,
    accepting,
    commands,
    false_expectation,
    gate,
    lost,
    note,
    ran,
    row,
    skipped,
    warning,
)
from wirecheck import cli_gate, cli_gate_faces
from wirecheck.cli_console import harmless, stderr_console
from wirecheck.cli_gate_faces import FACES, face
from wirecheck.cli_gate_file import line_finder
from wirecheck.cli_github import path_in_repository
from wirecheck.demo import demo_folders
from wirecheck.errors import UsageError
from wirecheck.gate_records import GateRow
from wirecheck.schema import Level, Policy
from wirecheck.views import annotations, code_quality
from wirecheck.views.words import no_command, visible

INJECTION = "a token \n::set-output name=x::1\r\n ::stop-commands::x ##[add-mask]e 100%, done: %0A::error::"


def red(**changes) -> GateRow:
    return row(ran(false_expectation()), ran(warning(), probe="tokenizer", subject="b"), **changes)


def hostile(text: str = HOSTILE) -> GateRow:
    result = hostile_result(text)
    return GateRow(a=text, outcome="incompatible", why=(text,), result=result)


# --- annotations -------------------------------------------------------------------------------------------------


def test_whole_text():
    found = gate(red(), lost("three: no folder ./three", a="two"), accepted=(acceptance("unused", "TOK05", "two"),))
    assert annotations.render(found, WHERE) == (
        "::error file=ci/wirecheck.toml,line=3,title=CFG11 expectation-failed%3A one"
        "::vocab_size is 31,999, not 32,000.%0Ain one + two%0Aremedy: Mend the expectation.\n"
        "::error file=ci/wirecheck.toml,line=1,title=could not check%3A three"
        "::no folder ./three%0Ain two + three%0Aremedy: check the path\n"
        "::warning file=ci/wirecheck.toml,line=7,title=TOK05 no-pad%3A two"
        "::There is no pad token.%0Ain one + two%0Aremedy: Set one.\n"
        "::warning file=ci/wirecheck.toml,line=20,title=acceptance unused%3A TOK05 on two"
        "::acceptance that nothing needed: TOK05 on two (we know); take it out\n"
        "::notice file=ci/wirecheck.toml,line=1,title=wirecheck gate%3A incompatible"
        "::wirecheck.toml: 0 of 2 checks compatible; 1 incompatible, 1 could not check.\n"
    )


def test_a_compatible_gate_has_a_notice_alone():
    found = gate(row(ran(note())), accepted=(acceptance("used"),))
    assert [(name, p["title"]) for name, p, _ in commands(annotations.render(found, WHERE))] == [
        ("notice", "wirecheck gate: compatible")
    ]


def test_what_was_accepted_is_no_annotation_and_a_refused_warning_is_an_error():
    taken = gate(row(ran(false_expectation()), policy=accepting("CFG11", "a")))
    assert [name for name, _, _ in commands(annotations.render(taken, WHERE))] == ["notice"]
    strict = gate(row(ran(warning(subject="a")), policy=Policy(required=Level.INSPECTED, strict=True)))
    assert [name for name, _, _ in commands(annotations.render(strict, WHERE))] == ["error", "notice"]


def test_one_finding_in_several_pairs_is_one_annotation():
    found = gate(red(), red(b="four"), red(a="five"))
    told = [(p["title"], data.split("\n")[1]) for name, p, data in commands(annotations.render(found, WHERE))[:2]]
    title = "CFG11 expectation-failed: "
    assert told == [(f"{title}one", "in one + two, one + four"), (f"{title}five", "in five + two")]


def test_open_questions_of_a_model_are_one_annotation():
    gaps = [skipped("no weights", probe=probe, level=Level.INSPECTED) for probe in ("first", "second", "third")]
    (error, properties, data), _ = commands(annotations.render(gate(row(ran(), *gaps)), WHERE))
    assert (error, properties["title"], properties["line"]) == ("error", "unproven: two", "7")
    assert data.split("\n") == ["first (inspected): skipped: no weights", "and 2 more", "in one + two"]


def test_at_most_ten_of_a_kind_and_the_last_counts_the_rest():
    rows = [lost("the gate's time was over", a=f"m{n}", b=None, outcome="not-run") for n in range(13)]
    told = commands(annotations.render(gate(*rows), WHERE))
    assert [name for name, _, _ in told] == ["error"] * 10 + ["notice"]
    assert told[9][2].endswith("\nand 3 more, in the report")
    assert "more" not in told[8][2]
    eleven, ten = (commands(annotations.render(gate(*rows[:count]), WHERE)) for count in (11, 10))
    assert [len(eleven), len(ten)] == [11, 11]
    assert eleven[9][2].endswith("\nand 1 more, in the report")
    assert "more" not in ten[9][2]


@pytest.mark.parametrize("text", [INJECTION, HOSTILE, "%0A%3A%25", "::", "x" * 100_000])
def test_no_text_makes_a_command_of_its_own(text):
    told = annotations.render(gate(hostile(text)), WHERE)
    found = commands(told)
    assert [name for name, _, _ in found] == ["error", "warning", "notice"]
    assert len(told.splitlines()) == len(told.split("\n")) - 1 == 3
    title = f"TOK08 {found[0][1]['title'].split()[1]} {visible(text)}"
    assert found[0][1]["title"].startswith(title[:150])
    assert len(found[0][1]["title"]) <= 255 or visible(text) != text
    assert found[0][1]["line"] == "1"
    if len(text) < 1000:
        assert found[0][2] == f"{visible(text)}\nremedy: {visible(text)}"


@given(st.text(alphabet=st.sampled_from(" :#[]\n\r\tax\x1b\u2028%"), max_size=60))
def test_harmless_text_holds_no_command(text):
    assert commands(no_command(text)) == []
    assert json.loads(no_command(json.dumps({"text": text}))) == {"text": text}


@pytest.mark.parametrize("text", ["a::b", "std::vector", "# heading", "a ## [x]", "x: ::y", "", "plain\nlines\n"])
def test_harmless_text_is_left_as_it_is(text):
    assert no_command(text) == text


def test_output_is_changed_on_a_runner_alone(monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_ACTIONS", "false")
    assert harmless("::error::x") == "::error::x"
    stderr_console().print("crashed ##[error]x", markup=False)
    assert "##[error]" in capsys.readouterr().err
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert harmless("  ::error::x") == "  \\u003a:error::x"
    stderr_console().print("crashed ##[error]x", markup=False)
    assert commands(capsys.readouterr().err) == []


def test_a_wrapped_line_of_the_terminal_is_no_command(monkeypatch, capsys):
    """The table and the account are wrapped: a word of a claim may come to stand at the beginning of a line."""
    monkeypatch.setenv("COLUMNS", "40")
    claims = [f"{'x' * width} ::set-output name=x::y" for width in range(5, 40)]
    shown = [cli_gate.shown(gate(row(ran(false_expectation(claim))))) for claim in claims]
    assert any(commands(text) for text in shown)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for text in shown:
        cli_gate.say(text)
        assert commands(capsys.readouterr().out) == []


# --- the command on a runner -------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A wirecheck.toml of one demo model whose expectation is false, in a folder below a repository's root."""
    monkeypatch.setenv("WIRECHECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (tmp_path / ".git").mkdir()
    place = tmp_path / "ci"
    shutil.copytree(demo_folders()[0], place / "model")
    path = place / "wirecheck.toml"
    path.write_text(
        '# our models\n[models.one]\nid = "./model"\nexpect = { vocab_size = 32000 }\n[gate]\nrequire = "inspected"\n'
    )
    return path


def test_annotations_and_summary_on_a_runner(file, monkeypatch, run, tmp_path):
    summary = tmp_path / "summary.md"
    summary.write_text("# of an earlier command")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    code, out, _ = run("gate", file, "--offline", "--report", tmp_path / "g.md")
    assert code == 1
    error, *_, notice = commands(out)
    assert (error[0], error[1]["file"], error[1]["line"]) == ("error", "ci/wirecheck.toml", "2")
    assert error[1]["title"] == "CFG11 expectation-failed: one"
    assert (notice[0], notice[1]["title"]) == ("notice", "wirecheck gate: incompatible")
    assert summary.read_text() == "# of an earlier command\n" + (tmp_path / "g.md").read_text()


def test_with_json_on_stdout_annotations_are_on_stderr(file, monkeypatch, run):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    code, out, err = run("gate", file, "--offline", "--json", "-")
    assert (code, json.loads(out)["rows"][0]["outcome"], commands(out)) == (1, "incompatible", [])
    assert next(name for name, _, _ in commands(err)) == "error"


@pytest.mark.parametrize("value", [None, "false", "1"])
def test_elsewhere_there_is_neither(file, monkeypatch, run, tmp_path, value):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    if value is not None:
        monkeypatch.setenv("GITHUB_ACTIONS", value)
    code, out, err = run("gate", file, "--offline")
    assert (code, commands(out), commands(err)) == (1, [], [])
    assert not (tmp_path / "summary.md").exists()


def test_a_summary_that_cannot_be_written_changes_no_exit_code(file, monkeypatch, run, tmp_path):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    code, _, err = run("gate", file, "--offline")
    assert code == 1
    assert "the step's summary was not written" in err


def test_a_long_summary_is_cut_at_a_line_and_says_so():
    report = "# head\n\n" + "- a line with an é in it\n" * 100
    whole = len(report.encode())
    assert annotations.summary(report, whole) == report
    for room in range(whole - 40, whole):
        cut = annotations.summary(report, room)
        assert len(cut.encode()) <= room
        body, _, words = cut.partition("\n\n*The report is cut here")
        assert report.startswith(body)
        assert body.endswith(("\n", "it"))
        assert words
    assert annotations.summary(report, 20) == ""
    assert annotations.summary(report, -5) == ""


def test_the_room_of_a_summary_is_what_the_step_has_left(file, monkeypatch, run, tmp_path):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("x" * (2**20 - 400))
    run("gate", file, "--offline")
    text = (tmp_path / "summary.md").read_bytes()
    assert 2**20 - 400 < len(text) <= 2**20
    assert b"The report is cut here" in text


def test_lines_of_the_file(file, tmp_path):
    file.write_text(file.read_text() + '[[gate.accepted]]\n\n[[gate.accepted]]\n[models."a.b"]\n')
    line = line_finder(file)
    places = [("models", "one"), ("models", "a.b"), ("gate", "accepted", 1), ("models", "none")]
    assert [line(place) for place in places] == [2, 10, 9, None]
    assert line_finder(tmp_path / "nowhere.toml")(("models", "one")) is None


def test_the_path_that_a_service_knows(file, monkeypatch, tmp_path):
    assert path_in_repository(file) == "ci/wirecheck.toml"
    monkeypatch.chdir(file.parent)
    assert path_in_repository(Path("./wirecheck.toml")) == "ci/wirecheck.toml"
    (tmp_path / ".git").rmdir()
    monkeypatch.setenv("GITHUB_WORKSPACE", "")
    monkeypatch.setenv("CI_PROJECT_DIR", str(tmp_path))
    assert path_in_repository(Path("wirecheck.toml")) == "ci/wirecheck.toml"
    monkeypatch.delenv("CI_PROJECT_DIR")
    if not any((folder / ".git").exists() for folder in file.parents):
        assert path_in_repository(Path("./wirecheck.toml")) == "wirecheck.toml"


# --- GitLab ------------------------------------------------------------------------------------------------------

GITLAB = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "additionalProperties": False,
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string", "minLength": 1},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": r"^(?!\./)(?!/)."},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}
"""The fields that GitLab documents of its code-quality report, and what it says of each."""


def violations(*rows: GateRow) -> list[dict]:
    told = json.loads(code_quality.render(gate(*rows), WHERE))
    jsonschema.validate(told, GITLAB)
    assert len({one["fingerprint"] for one in told}) == len(told)
    return told


def test_code_quality():
    told = violations(
        red(),
        row(ran(false_expectation(), note()), b="four", policy=accepting("CFG11", "a")),
        lost("three: no folder ./three", a="two"),
        row(ran(), skipped("no weights", level=Level.INSPECTED), a="five"),
    )
    assert [(one["check_name"], one["severity"], one["location"]["lines"]["begin"]) for one in told] == [
        ("CFG11", "blocker", 3),
        ("TOK05", "major", 7),
        ("CFG11", "minor", 3),
        ("EMB10", "info", 3),
        ("could-not-check", "blocker", 1),
        ("unproven", "blocker", 7),
    ]
    assert {one["location"]["path"] for one in told} == {"ci/wirecheck.toml"}
    assert told[0]["description"] == (
        "one in one + two: vocab_size is 31,999, not 32,000. Remedy: Mend the expectation."
    )
    assert violations(row(ran())) == []
    assert len(violations(row(ran(false_expectation("It is 1."), false_expectation("It is 2."))))) == 2


def test_a_fingerprint_holds_no_figure_and_tells_pairs_and_models_apart():
    def first(claim: str = "It is 1.", subject: str = "a", **named: str) -> str:
        runs = ran(false_expectation(claim, subject), subject=subject)
        return violations(row(runs, **named))[0]["fingerprint"]

    assert first() == first("It is 2.") != first("Other words.")
    assert len({first(), first(subject="b"), first(subject="pair"), first(a="x"), first(b="x")}) == 5


@given(st.text(min_size=1))
def test_any_text_gives_a_report_of_gitlab(text):
    assert [one["severity"] for one in violations(hostile(text))] == ["info", "major", "blocker"]


# --- which report a name asks for --------------------------------------------------------------------------------


def test_the_longest_ending_decides(monkeypatch):
    assert face(Path("a.CodeQuality.json")) is FACES[".codequality.json"]
    assert face(Path("a.md.badge.svg")) is FACES[".badge.svg"]
    assert face(Path("a.badge.md")) is FACES[".md"]
    monkeypatch.setattr(cli_gate_faces, "FACES", {".json": FACES[".md"], **FACES})
    assert face(Path("a.badge.json")) is FACES[".badge.json"]
    assert face(Path("a.json")) is FACES[".md"]


@pytest.mark.parametrize("name", ["a.json", "a.svg", "a", "badge.json", "a.pdf", "a.badge.json.gz"])
def test_an_unknown_ending_is_refused(name):
    with pytest.raises(UsageError, match="no report has the ending") as caught:
        face(Path(name))
    assert ".codequality.json, .badge.svg, .badge.json" in (caught.value.next_step or "")


def test_every_face_is_written(file, run, tmp_path):
    paths = [tmp_path / f"g{ending}" for ending in FACES]
    code, _, _ = run("gate", file, "--offline", *(word for path in paths for word in ("--report", path)))
    assert code == 1
    assert all(path.stat().st_size > 80 for path in paths)
    (told,) = [one for one in json.loads((tmp_path / "g.codequality.json").read_text()) if one["severity"] == "blocker"]
    assert (told["location"], told["check_name"]) == ({"path": "ci/wirecheck.toml", "lines": {"begin": 2}}, "CFG11")
    assert json.loads((tmp_path / "g.badge.json").read_text())["message"] == "incompatible"
