"""`wirecheck diff` as a command: files, faces, exit codes, and two real results."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from markdown_it import MarkdownIt

from tests.differences import BAD, COMPATIBLE, OLD, UNPROVEN, gate, gate_row, only_row, otherwise
from tests.factories import HOSTILE, hostile_result, pair_result
from wirecheck.cli_diff import shown
from wirecheck.cli_output import to_json as result_json
from wirecheck.cli_texts import diff_schema
from wirecheck.difference import compare
from wirecheck.difference_records import Difference
from wirecheck.views import difference as view

# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Two results of which a finding of the tokenizer and the seed differ, as files."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(result_json(OLD))
    new.write_text(result_json(otherwise("tokenizer.pad_token", seed=2)))
    return old, new


def test_the_command_writes_what_is_asked(run, files, tmp_path):
    code, out, _ = run(
        "diff", *files, "--json", tmp_path / "d.json", "--report", tmp_path / "d.md", "--report", tmp_path / "d.html"
    )
    assert code == 0
    assert "warn → ok: TOK05" in out
    held = json.loads((tmp_path / "d.json").read_text())
    jsonschema.validate(held, json.loads(diff_schema()))
    assert (held["old"]["file"], held["new"]["file"]) == tuple(map(str, files))
    assert "| **warn → ok** | TOK05" in (tmp_path / "d.md").read_text()
    assert "<strong>warn → ok</strong>" in (tmp_path / "d.html").read_text()


def test_json_on_stdout_stands_alone(run, files):
    code, out, _ = run("diff", *files, "--json", "-")
    assert code == 0
    assert Difference.model_validate_json(out).rows[0].findings[0].code == "TOK05"


def test_two_that_are_not_of_a_kind_are_usage(run, files, tmp_path):
    one, whole = tmp_path / "model.json", tmp_path / "gate.json"
    one.write_text(result_json(pair_result(b=None, runs=())))
    whole.write_text(gate(gate_row("x + y", BAD)).model_dump_json())
    for old, new, said in ((files[0], one, "of a pair"), (whole, files[0], "of a gate"), (one, whole, "of one model")):
        code, out, err = run("diff", old, new)
        assert (code, out) == (2, "")
        assert said in err
        assert "next: " in err
    assert run("diff", whole, whole)[0] == run("diff", one, one)[0] == 0
    with pytest.raises(ValueError, match="one is of a pair, the other of a model"):
        compare(OLD, pair_result(b=None, runs=()))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"rows": [], "file": 1}', "\x00", '{"a":' * 100_000, "\udc80"])
def test_a_file_that_is_no_result_is_usage(run, files, tmp_path, text):
    broken = tmp_path / "broken.json"
    broken.write_bytes(text.encode("utf-8", "surrogateescape"))
    code, out, err = run("diff", files[0], broken)
    assert (code, out) == (2, "")
    assert "no result of `wirecheck pair`, `model` or `gate`" in err
    assert run("diff", tmp_path / "nowhere.json", files[0])[0] == 2


def test_a_report_of_another_ending_is_usage_and_nothing_is_written(run, files, tmp_path):
    code, _, err = run("diff", *files, "--report", tmp_path / "d.md", "--report", tmp_path / "d.sarif")
    assert code == 2
    assert "use .md or .html" in err
    assert not (tmp_path / "d.md").exists()


def test_it_runs_without_torch(files):
    words = f"import sys; sys.argv = ['wirecheck', 'diff', {str(files[0])!r}, {str(files[1])!r}]\n"
    words += "from wirecheck import cli\ntry:\n    cli.main()\nfinally:\n    assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_strangers_wrote_is_harmless_in_every_face():
    found = compare(hostile_result(), hostile_result(HOSTILE + "!"), (HOSTILE, HOSTILE))
    assert len(found.rows[0].findings) == 4
    terminal, report = shown(found), view.render(found)
    for text in (terminal, report):
        assert not {"\x1b", "\x00", "\u202e", "\u2028"} & set(text)
    assert "<b>" not in view.render_html(found)
    tables = MarkdownIt("commonmark").enable("table").render(report).split("<table>")[1:]
    assert len(tables) >= 4
    for table in tables:
        assert {row.count("<td") for row in table.split("<tr>")[2:]} == {table.count("<th>")}


@pytest.mark.parametrize(
    ("old", "new", "mood"),
    [
        (COMPATIBLE, COMPATIBLE, "compatible"),
        (COMPATIBLE, BAD, "incompatible"),
        (BAD, BAD, "unproven"),
        (UNPROVEN, COMPATIBLE, "compatible"),
    ],
)
def test_a_page_is_green_only_where_the_new_result_is_compatible(old, new, mood):
    assert f'<body class="{mood}">' in view.render_html(compare(old, new))


# --- real results -----------------------------------------------------------------------------------------------------


def checked(run: Any, target: Path, a: Path, b: Path) -> Path:
    asked = ("--depth", "inspected", "--require", "inspected", "--json", target)
    assert run("pair", a, b, *asked)[0] in (0, 1)
    return target


def test_a_changed_template_is_told_with_its_file_and_both_digests(run, llama, qwen, tmp_path):
    before = checked(run, tmp_path / "old.json", llama, qwen)
    other = Path(shutil.copytree(qwen, tmp_path / "elsewhere" / "qwen"))
    template = other / "chat_template.jinja"
    template.write_text("{{ raise_exception('never') }}")
    after = checked(run, tmp_path / "new.json", llama, other)
    code, out, _ = run("diff", before, after, "--json", tmp_path / "d.json")
    assert code == 1
    found = Difference.model_validate_json((tmp_path / "d.json").read_text())
    commits = next((cause.old, cause.new) for cause in found.causes if cause.key == "b.commit")
    digests = tuple(f"sha256:{commit.removeprefix('sha256:')[:12]}" for commit in commits)
    line = f"chat_template.jinja at {digests[1]} instead of {digests[0]}"
    changes = only_row(found)
    (broken,) = [c for c in changes.findings if c.code == "TPL02"]
    assert (str(broken.old.severity), str(broken.new.severity)) == ("ok", "block")
    assert f"the same probe found another template_sha256: {line}" in broken.why
    (text,) = [fact for fact in changes.facts if fact.key == "template_sha256"]
    assert text.why[0] == line
    assert {c.subject for c in changes.findings if c.probe == "template"} == {"b"}
    assert "ok → block: TPL02" in out
    assert {cause.key for cause in found.causes} == {"b.ref", "b.commit"}


def test_the_same_models_again_are_the_same(run, llama, qwen, tmp_path):
    files = [checked(run, tmp_path / f"{n}.json", llama, qwen) for n in range(2)]
    code, out, _ = run("diff", *files)
    assert code == 0
    assert view.NOTHING in " ".join(out.split())


def test_two_real_gates(run, llama, qwen, tmp_path, monkeypatch):
    """The row of the model whose template changed is told by the names of the file, and the other row is the same."""
    monkeypatch.setenv("WIRECHECK_CACHE", str(tmp_path / "cache"))
    models = f'[models.one]\nid = "{llama}"\n[models.two]\nid = "{qwen}"\n[models.three]\nid = "{llama}"\n'
    asked = '[gate]\npairs = [["one", "two"], ["one", "three"]]\nrequire = "inspected"\n'
    (tmp_path / "wirecheck.toml").write_text(models + asked)
    files = [tmp_path / "old.json", tmp_path / "new.json"]
    run("gate", tmp_path / "wirecheck.toml", "--json", files[0])
    assert run("diff", files[0], files[0])[0] == 0
    with (qwen / "chat_template.jinja").open("a") as template:
        template.write("{{ raise_exception('never') }}")
    run("gate", tmp_path / "wirecheck.toml", "--json", files[1])
    code, out, _ = run("diff", *files, "--json", tmp_path / "d.json")
    found = Difference.model_validate_json((tmp_path / "d.json").read_text())
    assert (code, found.same) == (1, ("one + three",))
    assert [(cause.key, cause.rows) for cause in found.causes] == [("two.commit", ("one + two",))]
    assert "ok → block: TPL02 template-fails [two]" in out


def test_the_committed_schema_is_what_the_command_prints(run):
    committed = Path(__file__).parents[1] / "docs" / "schema-diff.json"
    assert run("schema", "diff") == (0, committed.read_text(encoding="utf-8"), "")
