"""A user's own template, pictures as files, and claims, from the command line: what they make, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.factories import hostile_result, pair_result
from wirecheck import runner
from wirecheck.cli_output import to_json
from wirecheck.schema import Claim, PairResult
from wirecheck.views import claims, markdown, own_template, templates
from wirecheck.views.faces import Face, HtmlFace, MarkdownFace
from wirecheck.views.tellers import TELLERS


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_text(to_json(pair_result()))
    return path


def rendered(
    source: str,
    result: PairResult | None = None,
    *,
    face: Face | None = None,
    escaped: bool = False,
    most: int = 10_000,
) -> str:
    given = markdown.variables(result or pair_result(), face or MarkdownFace())
    return templates.render_own(source, given, escaped=escaped, most=most)


# --- what a template can do --------------------------------------------------------------------------------------


def test_a_template_reads_the_result_and_uses_the_filters():
    text = rendered("{{ result.a.name|text }} {{ story.sentence(result)|text }} {{ 1234567|human }}")
    assert text.startswith("org/alpha ")
    assert text.endswith(" 1,234,567")


def test_it_may_extend_the_shipped_report_and_change_one_part():
    text = rendered('{% extends "pair.md.j2" %}{% block models %}MINE{% endblock %}', most=1_000_000)
    whole = markdown.render(pair_result())
    assert "MINE" in text
    assert "## Models analysed" not in text
    assert "## Warnings" in text
    assert text.split("## Executive summary")[0] == whole.split("## Executive summary")[0]


def test_of_an_html_template_every_value_is_escaped():
    text = rendered("<p>{{ result.a.name }}</p>", hostile_result("<script>x</script>"), escaped=True)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_what_the_face_gives_an_html_template_is_html():
    source = "{{ face.fold('more') }}{{ face.anchor('x') }}{{ face.unfold() }}{{ face.picture('none') }}"
    text = rendered(source, face=HtmlFace(), escaped=True)
    assert text == '<details><summary>more</summary><a id="x"></a></details>'


@pytest.mark.parametrize(
    "source",
    [
        "{{ result.__class__ }}",
        "{{ result.parse_file('/etc/hostname') }}",
        "{{ result.model_construct() }}",
        "{{ result.model_copy(update={'seed': 3}) }}",
        "{{ story.sentence.__globals__ }}",
        "{{ costs.shlex.os.system('true') }}",
        "{{ face.pictures.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ '{0.__class__}'.format(result) }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{% include '../pyproject.toml' %}",
        "{% include '/etc/hostname' %}",
        "{{ result.nothing_such }}",
        "{{ unheard_of }}",
        "{{ range(10000000)|list|length }}",
    ],
)
def test_what_it_may_not_do_is_refused(source):
    with pytest.raises(templates.Fault):
        rendered(source)


def test_a_template_that_writes_without_end_is_stopped():
    with pytest.raises(templates.Fault, match="more than 10,000 characters"):
        rendered("{% for _ in range(9999) %}{{ 'x' * 100 }}{% endfor %}")


def test_a_fault_names_its_line():
    with pytest.raises(templates.Fault, match=r"^line 2: .*undefined"):
        rendered("one\n{{ unheard_of }}")
    with pytest.raises(templates.Fault, match=r"^line 3: "):
        rendered("one\ntwo\n{% if %}")


def test_every_teller_says_what_it_is():
    for name, functions in TELLERS.items():
        for function in functions:
            assert function.__doc__, f"{name}.{function.__name__}"
            assert function.__module__ in (f"wirecheck.views.{name}", "wirecheck.views.story")


# --- the child process -------------------------------------------------------------------------------------------


def test_a_template_that_never_ends_is_ended(tmp_path, monkeypatch):
    path = tmp_path / "slow.md.j2"
    path.write_text("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    monkeypatch.setattr(own_template, "WALL_S", 1.5)
    with pytest.raises(own_template.TemplateRefused, match=r"not done after 1\.5 s"):
        own_template.render(path, pair_result(), ".md")


def test_one_that_takes_all_memory_is_ended(tmp_path):
    path = tmp_path / "large.md.j2"
    path.write_text("{% set x = 'y' * 9000000000 %}{{ x|length }}")
    with pytest.raises(own_template.TemplateRefused):
        own_template.render(path, pair_result(), ".md")


def test_the_page_of_a_markdown_template_is_a_page(tmp_path):
    path = tmp_path / "own.md.j2"
    path.write_text("# {{ result.a.name|text }}\n\n{{ face.picture('ladder') }}\n\n<b>raw</b>\n")
    page = own_template.render(path, pair_result(), ".html")
    assert page.startswith("<!doctype html>")
    assert "<svg" in page
    assert "<b>raw" not in page


@pytest.mark.parametrize("name", ["own.html", "OWN.HTML.j2", "own.htm"])
def test_an_html_template_is_escaped_by_any_spelling_of_its_name_and_has_its_pictures(tmp_path, name):
    path = tmp_path / name
    path.write_text("<p>{{ result.a.name }}</p>{{ face.picture('ladder') }}")
    page = own_template.render(path, hostile_result("<script>x</script>"), ".html")
    assert "<script" not in page
    assert page.count("<svg") == 1


def test_a_mark_that_a_template_lets_through_is_a_fault_of_the_template(tmp_path):
    result = pair_result()
    named = result.a.model_copy(update={"name": "x\ue000no-such\ue001"})
    path = tmp_path / "own.md.j2"
    path.write_text("{{ result.a.name }}")
    with pytest.raises(own_template.TemplateRefused, match="no piece"):
        own_template.render(path, result.model_copy(update={"a": named}), ".html")


# --- the command line --------------------------------------------------------------------------------------------


def test_report_writes_by_the_template(run, stored, tmp_path):
    template = tmp_path / "short.md.j2"
    template.write_text("# {{ story.names(result)|text }}: {{ result.verdict.outcome }}\n")
    code, _, err = run(
        "report", stored, "--template", template, "--report", tmp_path / "x.md", "--report", tmp_path / "x.xml"
    )
    assert (code, err) == (1, "")
    assert (tmp_path / "x.md").read_text() == "# org/alpha + org/beta: incompatible\n"
    assert (tmp_path / "x.xml").read_text().startswith("<?xml"), "a report for machines is as ever"


def test_a_template_may_write_any_kind_of_text(run, stored, tmp_path):
    template = tmp_path / "mine.txt"
    template.write_text("{{ result.verdict.outcome }}")
    assert run("report", stored, "--template", template, "--report", tmp_path / "x.tex")[0] == 1
    assert (tmp_path / "x.tex").read_text() == "incompatible"


def test_a_fault_that_shows_late_costs_no_result(run, stored, tmp_path):
    template = tmp_path / "late.md.j2"
    template.write_text("{{ result.nothing_such }}")
    words = ("--report", tmp_path / "x.xml", "--report", tmp_path / "x.md", "--pictures", tmp_path / "pics")
    code, out, err = run("report", stored, "--template", template, *words, "--json", tmp_path / "again.json")
    assert code == 2
    assert "INCOMPATIBLE" in out, "the result is shown"
    assert "nothing_such" in err
    assert (tmp_path / "again.json").is_file()
    assert not [path for path in tmp_path.iterdir() if path.name in ("x.xml", "x.md", "pics")], "all reports or none"


def test_a_report_that_cannot_be_written_costs_no_result(run, stored):
    code, out, _ = run("report", stored, "--report", "/proc/nowhere/x.md")
    assert code == 4
    assert "INCOMPATIBLE" in out


def test_a_template_shows_pictures_that_are_files(run, stored, tmp_path):
    template = tmp_path / "own.md.j2"
    template.write_text("{{ face.picture('ladder') }}")
    words = ("--template", template, "--report", tmp_path / "x.md", "--pictures", tmp_path / "pics")
    run("report", stored, *words)
    assert "](pics/ladder.svg)" in (tmp_path / "x.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--template", "none.md.j2", "--report", "x.md"], "no such file"),
        (["--template", "bad.md.j2"], "no report is made by it"),
        (["--template", "bad.md.j2", "--report", "x.xml"], "no report is made by it"),
        (["--template", "bad.md.j2", "--report", "x.md"], "line 1: "),
        (["--report", "x.tex"], "no report has the ending .tex"),
    ],
)
def test_a_wrong_template_is_one_line_and_nothing_is_written(run, stored, monkeypatch, words, said):
    monkeypatch.chdir(stored.parent)
    Path("bad.md.j2").write_text("{{ oops")
    code, out, err = run("report", stored, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 2
    assert not list(stored.parent.glob("x.*"))


def test_pictures_are_files_that_the_markdown_shows(run, stored, tmp_path):
    folder, report = tmp_path / "my pics", tmp_path / "out" / "r.md"
    assert run("report", stored, "--pictures", folder, "--report", report)[0] == 1
    files = {path.name for path in folder.iterdir()}
    assert "ladder.svg" in files
    for path in folder.iterdir():
        assert ET.fromstring(path.read_text()).tag == "{http://www.w3.org/2000/svg}svg"
    assert "](../my%20pics/ladder.svg)" in report.read_text()
    assert "](" not in markdown.render(pair_result()).replace("](#", ""), "without pictures nothing is shown"


# --- claims ------------------------------------------------------------------------------------------------------


def test_an_older_result_is_compared_figure_by_figure(run, stored, tmp_path):
    old = json.loads(stored.read_text())
    whole = (f for r in old["runs"] for f in r["facts"] if f["subject"] == "a" and type(f["value"]) is int)
    fact = next(whole)
    found, fact["value"] = fact["value"], fact["value"] + 8
    (tmp_path / "old.json").write_text(json.dumps(old))
    code, out, _ = run("report", stored, "--claim", tmp_path / "old.json", "--json", tmp_path / "new.json")
    assert code == 1
    assert "Compared with the claim" in out
    assert f"a {fact['key']}: claimed {found + 8:,}, found {found:,}" in " ".join(out.split())
    kept = PairResult.model_validate_json((tmp_path / "new.json").read_text())
    assert {claim.key for claim in kept.claims} >= {fact["key"], "verdict", "memory_bytes"}
    assert all(claim.source == "old.json, a result of wirecheck" for claim in kept.claims)


def test_the_sides_of_an_older_result_are_told_by_name(run, stored, tmp_path):
    old = pair_result()
    swapped = old.model_copy(update={"a": old.b, "b": old.a})
    (tmp_path / "old.json").write_text(to_json(swapped))
    run("report", stored, "--claim", tmp_path / "old.json", "--json", tmp_path / "new.json")
    kept = PairResult.model_validate_json((tmp_path / "new.json").read_text())
    here = {(fact.key, fact.value) for r in old.runs for fact in r.facts if fact.subject == "a"}
    assert {(claim.key, claim.value) for claim in kept.claims if claim.subject == "b"} >= here
    assert not [claim for claim in kept.claims if claim.subject == "pair"], "the other way round is another pair"


def test_figures_written_down_are_claims(run, stored, tmp_path):
    (tmp_path / "said.toml").write_text(
        'source = "the report of May"\n[a]\nvocab_size = 32000\n[pair]\nverdict = "compatible"\n'
    )
    run("report", stored, "--claim", tmp_path / "said.toml", "--json", tmp_path / "new.json")
    kept = PairResult.model_validate_json((tmp_path / "new.json").read_text())
    assert kept.claims == (
        Claim(subject="a", key="vocab_size", value=32000, source="the report of May"),
        Claim(subject="pair", key="verdict", value="compatible", source="the report of May"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a]\nvocab_sise = 3\n", "vocab_size?"),
        ("[c]\nx = 3\n", "c is none of a, b, pair"),
        ("[a]\nverdict = 'compatible'\n", "verdict is of the pair"),
        ('[pair]\n"" = 3\n', "without a name"),
        ("a = 3\n", "not its form"),
        ("source = 3\n", "not its form"),
        ("[a]\nvocab_size = [3]\n", "no number, text or yes-or-no"),
        ("[a]\nvocab_size = nan\n", "no number, text or yes-or-no"),
        ("[a\n", "not TOML"),
    ],
)
def test_claims_that_are_none_are_refused_before_anything_runs(run, llama, monkeypatch, text, said):
    monkeypatch.setattr(runner, "ran", lambda *_: pytest.fail("a probe ran"))
    file = llama.parent / "said.toml"
    file.write_text(text)
    code, out, err = run("pair", llama, llama, "--claim", file)
    assert (code, out) == (2, "")
    assert said in err


def test_a_claim_about_other_models_is_refused_before_anything_runs(run, llama, stored, monkeypatch):
    monkeypatch.setattr(runner, "ran", lambda *_: pytest.fail("a probe ran"))
    code, out, err = run("model", llama, "--claim", stored)
    assert (code, out) == (2, "")
    assert "not checked here" in err


def test_of_one_model_alone_nothing_is_claimed_of_a_pair(run, llama, tmp_path):
    (tmp_path / "said.toml").write_text("[pair]\nverdict = 'compatible'\n")
    code, _, err = run("model", llama, "--claim", tmp_path / "said.toml")
    assert code == 2
    assert "pair is none of a" in err


def kept_claims(run, stored, tmp_path, old: PairResult) -> set[tuple[str, str]]:
    """What `old`, as a claim, says of the stored result."""
    (tmp_path / "old.json").write_text(to_json(old))
    assert run("report", stored, "--claim", tmp_path / "old.json", "--json", tmp_path / "new.json")[0] == 1
    claims = PairResult.model_validate_json((tmp_path / "new.json").read_text()).claims
    return {(claim.subject, claim.key) for claim in claims}


def test_what_is_not_comparable_is_not_claimed(run, stored, tmp_path):
    old = pair_result()
    whole = {("pair", "verdict"), ("pair", "memory_bytes")}
    assert whole <= kept_claims(run, stored, tmp_path, old)
    other_step = old.model_copy(update={"train": old.train.model_copy(update={"batch": 99})})
    assert whole & kept_claims(run, stored, tmp_path, other_step) == {("pair", "verdict")}
    cut_off = old.model_copy(update={"status": "interrupted"})
    assert whole & kept_claims(run, stored, tmp_path, cut_off) == {("pair", "memory_bytes")}
    stricter = old.model_copy(update={"policy": old.policy.model_copy(update={"strict": True})})
    assert ("pair", "verdict") not in kept_claims(run, stored, tmp_path, stricter)
    other_wire = old.model_copy(update={"wire": old.wire.model_copy(update={"latent_length": 7})})
    assert not [
        key for side, key in kept_claims(run, stored, tmp_path, other_wire) if side == "pair" and key != "verdict"
    ]


def test_two_models_of_one_name_are_told_apart_by_their_order(run, tmp_path):
    result = pair_result()
    same = result.model_copy(update={"b": result.b.model_copy(update={"name": result.a.name})})
    path = tmp_path / "same.json"
    path.write_text(to_json(same))
    run("report", path, "--claim", path, "--json", tmp_path / "new.json")
    new = PairResult.model_validate_json((tmp_path / "new.json").read_text())
    assert new.claims
    assert {one.holds for one in claims.compared(new)} == {True}
    alone = tmp_path / "alone.json"
    alone.write_text(to_json(pair_result(b=None)))
    code, _, err = run("report", path, "--claim", alone)
    assert code == 2
    assert "name of two models" in err


def test_a_result_of_other_models_claims_nothing_here(run, stored, tmp_path):
    old = pair_result()
    other = {side: getattr(old, side).model_copy(update={"name": f"other/{side}"}) for side in "ab"}
    (tmp_path / "old.json").write_text(to_json(old.model_copy(update=other)))
    code, _, err = run("report", stored, "--claim", tmp_path / "old.json")
    assert code == 2
    assert "not checked here" in err
