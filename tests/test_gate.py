"""`wirecheck gate`: what must hold, said in a file; it fails closed, and what is unchanged is not run again."""

from __future__ import annotations

import json
import shutil
import tomllib
import xml.etree.ElementTree as ET
from datetime import date
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from tests.factories import needs_assets, seed_snapshot
from wirecheck import cli_gate, cli_gate_file, runner
from wirecheck.demo import demo_folders
from wirecheck.errors import Interrupted, UsageError
from wirecheck.gate import Gate, all_pairs
from wirecheck.gate_records import GateResult, GateRow
from wirecheck.gate_shelf import Shelf
from wirecheck.isolated_child import Begun
from wirecheck.views import gate as view

OPTIONS = {"json": None, "report": None, "offline": True, "fresh": False, "locked": False, "prove_offline": False}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the two demo models, and a shelf of its own."""
    monkeypatch.setenv("WIRECHECK_CACHE", str(tmp_path / "cache"))
    for source in demo_folders():
        shutil.copytree(source, tmp_path / source.name)
    return tmp_path


def names(place: Path) -> list[str]:
    return [source.name for source in demo_folders()]


def written(place: Path, more: str = "", gate: str = 'require = "simulated"', expect: str = "") -> Path:
    a, b = names(place)
    path = place / "wirecheck.toml"
    path.write_text(
        f'[models.one]\nid = "./{a}"\n{expect}\n[models.two]\nid = "./{b}"\n\n[gate]\n{gate}\n'
        f"{more}\n[wire]\nlatent_length = 4\nlatent_width = 32\nmax_bytes = 64\n",
        encoding="utf-8",
    )
    return path


def ran(path: Path, **options) -> tuple[int, GateResult]:
    target = path.parent / "gate.json"
    code = cli_gate.gate_command(path, OPTIONS | {"json": str(target)} | options)
    return code, cli_gate.read_gate_result(target)


# --- what it says ------------------------------------------------------------------------------------------------


def test_green_and_then_unchanged(place, monkeypatch):
    path = written(place, expect="expect = { vocab_size = VOCAB }".replace("VOCAB", str(vocabulary(place))))
    code, first = ran(path)
    assert (code, first.outcome, [row.kept for row in first.rows]) == (0, "compatible", [False])
    monkeypatch.setattr(runner, "ran", None)  # nothing is to be run
    code, second = ran(path)
    assert (code, second.outcome, [row.kept for row in second.rows]) == (0, "compatible", [True])
    assert second.rows[0].result.verdict == first.rows[0].result.verdict


def vocabulary(place: Path) -> int:
    return json.loads((place / names(place)[0] / "config.json").read_text())["vocab_size"]


def test_a_false_expectation_turns_it_red(place):
    code, found = ran(written(place, expect="expect = { vocab_size = 32000 }"))
    assert code == 1
    assert any("CFG11 (a)" in line for line in found.rows[0].why)
    assert any("remedy of CFG11" in line for line in view.account(found, found.rows[0]))


def test_a_changed_template_runs_its_model_again_and_the_pair(place, monkeypatch):
    path = written(place)
    ran(path)
    template = place / names(place)[1] / "tokenizer_config.json"
    fields = json.loads(template.read_text())
    template.write_text(json.dumps(fields | {"note": "changed"}))
    asked: list[str] = []
    before = runner.Check.watch

    def spy(check, step):
        asked.extend([step.subject] if isinstance(step, Begun) else [])
        before(check, step)

    monkeypatch.setattr(runner.Check, "watch", spy)
    code, found = ran(path)
    assert (code, found.rows[0].kept, set(asked)) == (0, False, {"b", "pair"})


def test_weights_touched_on_disk_are_run_again(place):
    path = written(place)
    ran(path)
    weights = next((place / names(place)[0]).glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert not ran(path)[1].rows[0].kept


@pytest.mark.parametrize("change", ["versions", "seed", "wire", "fresh"])
def test_another_question_is_asked_again(place, monkeypatch, change):
    path = written(place)
    ran(path)
    if change == "versions":
        from wirecheck import gate_shelf

        other = runner.environment().model_copy(update={"python": "3.99"})
        monkeypatch.setattr(gate_shelf, "environment", lambda: other)
    elif change == "seed":
        path = written(place, gate='require = "simulated"\nseed = 3')
    elif change == "wire":
        path.write_text(path.read_text().replace("latent_length = 4", "latent_length = 5"))
    assert not ran(path, fresh=change == "fresh")[1].rows[0].kept


def test_a_broken_shelf_is_no_shelf(place):
    path = written(place)
    ran(path)
    store = place / "cache" / "answers.sqlite"
    store.write_bytes(b"no database" * 1000)
    code, found = ran(path)
    assert (code, found.rows[0].kept) == (0, False)


def test_what_was_skipped_for_want_of_something_is_not_kept(place):
    path = written(place, gate='require = "measured"\ndevice = "cpu"')
    code, found = ran(path)
    assert (code, found.outcome) == (3, "unproven")
    assert not ran(path)[1].rows[0].kept


def test_a_model_that_is_not_there_is_4_and_the_others_are_checked(place):
    path = written(place)
    text = path.read_text().replace("[gate]", '[models.three]\nid = "./nowhere"\n\n[gate]')
    path.write_text(text)
    code, found = ran(path)
    assert code == 4
    assert [row.outcome for row in found.rows] == ["compatible", "could-not-check", "could-not-check"]
    assert "no folder" in found.rows[1].why[0]
    assert any(line.startswith("next: ") for line in view.account(found, found.rows[1]))


def test_no_time_left_is_not_proven(place):
    path = written(place, gate='require = "simulated"\nminutes = 0.0000001')
    code, found = ran(path)
    assert (code, found.rows[0].outcome) == (3, "not-run")


def test_one_model_alone(place):
    path = written(place)
    a, _ = names(place)
    path.write_text(f'[models.one]\nid = "./{a}"\n')
    code, found = ran(path)
    assert (code, found.rows[0].name) == (0, "one")
    assert ran(path)[1].rows[0].kept


def test_ctrl_c_keeps_what_stands(place, monkeypatch):
    path = written(place)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner.Check, "ended", stop)
    with pytest.raises(Interrupted):
        ran(path)
    found = cli_gate.read_gate_result(place / "gate.json")
    assert found.status == "interrupted"
    assert view.exit_code(found) == 3
    assert not (place / "cache" / "answers.sqlite").exists()


# --- acceptances -------------------------------------------------------------------------------------------------


def accepted(code: str, on: str, until: str = "2999-01-01") -> str:
    return f'[[gate.accepted]]\ncode = "{code}"\non = "{on}"\nreason = "we know"\nuntil = {until}\n'


RED = {"expect": "expect = { vocab_size = 32000 }"}


def test_an_accepted_finding_does_not_decide(place):
    code, found = ran(written(place, accepted("CFG11", "one"), **RED))
    assert code == 0
    assert any("accepted until 2999-01-01: CFG11 (a): we know" in line for line in found.rows[0].why)
    assert [one.state for one in found.accepted] == ["used"]
    assert view.acceptances(found) == ()


def test_an_expired_acceptance_holds_no_more_and_is_told(place):
    code, found = ran(written(place, accepted("CFG11", "one", "2020-01-01"), **RED))
    assert code == 1
    assert "acceptance expired on 2020-01-01: CFG11 on one" in view.acceptances(found)[0]


def test_an_acceptance_on_the_other_model_does_not_help_and_is_told(place):
    code, found = ran(written(place, accepted("CFG11", "two"), **RED))
    assert code == 1
    assert "nothing needed" in view.acceptances(found)[0]


def test_an_acceptance_holds_through_its_last_day(place):
    path = written(place, accepted("CFG11", "one", "2026-03-01"), **RED)
    rules, read = cli_gate_file.read_rules(path, "wirecheck gate", offline=True)

    def on(day: date) -> str:
        from dataclasses import replace

        with cli_gate.GateProgress(Console(quiet=True)) as watch:
            return Gate(replace(rules, today=day), read, watch, Shelf.of_user()).run().outcome

    assert on(date(2026, 3, 1)) == "compatible"
    assert on(date(2026, 3, 2)) == "incompatible"


# --- the file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said", "next_step"),
    [
        ('[models.one]\nid = "x/y"\nexpct = {}\n', "wirecheck.toml:3: models.one.expct: no such key", "mean expect?"),
        ('[models.one]\nid = "x/y"\n[gat]\n', "wirecheck.toml:3: gat: no such table", "mean gate?"),
        ("[models.one]\n", "wirecheck.toml:1: models.one: id is missing", "add id"),
        ("[gate]\n", "models: models is missing", "add models"),
        ('[models.one]\nid = "x/y"\n[gate]\n\nstrict = "perhaps"\n', "wirecheck.toml:5: gate.strict:", "mend"),
        ('[models.one]\nid = "x/y"\n[gate]\nrequire = "proven"\n', "wirecheck.toml:4: gate.require:", "mend"),
        ('[models.one]\nid = "x/y"\n[gate]\ngpus = ["A100-80"]\n', "wirecheck.toml:4: gate.gpus:", "A100-80GB"),
        (
            '[models.one]\nid = "x/y"\n[gate]\npairs = [["one", "tow"]]\n',
            "gate.pairs.0: no model is named tow",
            "one",
        ),
        ('[models.one]\nid = "x/y"\n[gate]\npairs = []\n', "4: gate.pairs: no pair is named", "all"),
        ('[models.one]\nid = "x/y"\n[gate]\npairs = [["one", "one"]]\n', "one is paired with itself", "two models"),
        (
            '[models.one]\nid = "x/y"\nexpect = { vocab_sise = 3 }\n',
            "3: models.one.expect.vocab_sise: no probe",
            "vocab_size",
        ),
        ('[models.one]\nid = "./m"\nrevision = "main"\n', "3: models.one.revision: a folder or file has none", "leave"),
        (
            '[models.one]\nid = "x/y"\n' + accepted("TOK99", "one") + accepted("TOK06", "two"),
            "4: gate.accepted.0.code: there is no code TOK99",
            "TOK",
        ),
        (
            '[models.one]\nid = "x/y"\n' + accepted("TOK06", "one") + accepted("TOK06", "two"),
            "10: gate.accepted.1.on: no model or pair is two",
            "one",
        ),
        ('[models.one]\nid = "x/y"\n[wire]\nname = "bites"\n', "4: wire.name: bites: wirecheck ships no wire", "bytes"),
        ('[models.one]\nid = "x/y"\n[train]\nbatch = 0\n', "4: train.batch:", "mend"),
        ("models = 3 =\n", "not TOML", "mend"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, said, next_step):
    path = tmp_path / "wirecheck.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        cli_gate_file.read_rules(path, "wirecheck gate", offline=True)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert next_step in (caught.value.next_step or "")


def test_no_file_and_an_unknown_ending(tmp_path):
    with pytest.raises(UsageError) as caught:
        ran(tmp_path / "none.toml")
    assert "wirecheck init" in (caught.value.next_step or "")
    with pytest.raises(UsageError, match="no report has the ending"):
        cli_gate.gate_command(tmp_path / "none.toml", OPTIONS | {"report": [Path("x.pdf")]})


@pytest.mark.parametrize("models", [[], ["org/one@abc123", "./here/one", 'we"ird/x']])
def test_what_init_writes_is_read(tmp_path, models):
    path = tmp_path / "wirecheck.toml"
    assert cli_gate.init_command(models, path) == 0
    rules, read = cli_gate_file.read_rules(path, "wirecheck gate", offline=True)
    assert len(read) == (len(models) or 2)
    assert rules.pairs == all_pairs(list(read))
    with pytest.raises(UsageError, match="is there already"):
        cli_gate.init_command(models, path)


def test_folders_are_looked_for_beside_the_file(place, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert ran(written(place))[0] == 0


# --- what it writes ----------------------------------------------------------------------------------------------


def test_reports(place, validator):
    path = written(place, **RED)
    text = path.read_text().replace("[gate]", '[models.three]\nid = "./nowhere"\n\n[gate]')
    path.write_text(text)
    faces = [place / f"gate{ending}" for ending in (".md", ".html", ".xml", ".sarif")]
    code, _ = ran(path, report=faces)
    assert code == 1
    assert "| one + two | incompatible |" in faces[0].read_text()
    root = ET.fromstring(faces[2].read_text())
    assert int(root.get("errors")) >= 2
    assert int(root.get("failures")) >= 2
    cases = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(cases) == len(set(cases))
    log = json.loads(faces[3].read_text())
    validator.validate(log)
    assert [run["invocations"][0]["executionSuccessful"] for run in log["runs"]] == [True, False, False]


def test_a_gate_without_rows_certifies_nothing():
    nothing = GateResult(status="finished", file="f", command="c")
    assert (nothing.outcome, view.exit_code(nothing)) == ("not-run", 3)
    with pytest.raises(ValueError, match="without a result"):
        GateRow(a="x", outcome="compatible", why=())


def test_the_worst_row_decides():
    def outcome(*rows: str) -> str:
        made = tuple(GateRow.model_construct(a="x", b=None, outcome=one, why=()) for one in rows)
        return GateResult.model_construct(status="finished", rows=made).outcome

    assert outcome("compatible", "compatible") == "compatible"
    assert outcome("compatible", "not-run") == "not-run"
    assert outcome("not-run", "unproven") == "unproven"
    assert outcome("unproven", "could-not-check") == "could-not-check"
    assert outcome("could-not-check", "incompatible") == "incompatible"


SEEDS = {
    ("llama1b", "v03"): (("meta-llama__Llama-3.2-1B-Instruct", 128256), ("mistralai__Mistral-7B-Instruct-v0.3", 32768)),
    ("llama3b", "qwen1"): (("meta-llama__Llama-3.2-3B-Instruct", 128256), ("Qwen__Qwen2.5-1.5B-Instruct", 151936)),
    ("llama8b", "qwen7"): (("meta-llama__Llama-3.1-8B-Instruct", 128256), ("Qwen__Qwen2.5-7B-Instruct", 152064)),
}


def seeds(folder: Path, require: str, *pairs: tuple[str, str]) -> Path:
    tables = [
        f'[models.{name}]\nid = "{seed_snapshot(model, folder)}"\nexpect = {{ vocab_size = {rows} }}\n'
        for pair in pairs
        for name, (model, rows) in zip(pair, SEEDS[pair], strict=True)
    ]
    gate = f'[gate]\nrequire = "{require}"\npairs = {json.dumps(pairs)}\n'
    (folder / "wirecheck.toml").write_text("\n".join([*tables, gate]))
    return folder / "wirecheck.toml"


@needs_assets
@pytest.mark.parametrize(("require", "count"), [("simulated", 1), ("inspected", 3)])
def test_the_seed_pairs(tmp_path, monkeypatch, require, count):
    """Green on what is true. What each pair is when simulated is in reports/, which `make check` makes afresh."""
    monkeypatch.setenv("WIRECHECK_CACHE", str(tmp_path / "cache"))
    path = seeds(tmp_path, require, *list(SEEDS)[:count])
    code, found = ran(path)
    assert (code, [row.outcome for row in found.rows]) == (0, ["compatible"] * count)
    assert [row.kept for row in ran(path)[1].rows] == [True] * count
    if count == 1:
        return
    path.write_text(path.read_text().replace("vocab_size = 32768", "vocab_size = 32000"))
    code, found = ran(path)
    assert (code, [row.outcome for row in found.rows]) == (1, ["incompatible", "compatible", "compatible"])
    assert [row.kept for row in found.rows] == [False, True, True]
    assert any(line.startswith("CFG11 (b)") for line in found.rows[0].why), "of Mistral's vocabulary, told wrongly"


@pytest.mark.parametrize("what", ["result", "gate", "file"])
def test_schemas_hold_for_what_they_are_of(place, run, what):
    code, out, _ = run("schema", what)
    schema = json.loads(out)
    assert code == 0
    path = written(place, accepted("CFG11", "one"))
    if what == "file":
        held = tomllib.loads(path.read_text())
        held["gate"]["accepted"][0]["until"] = "2999-01-01"
        jsonschema.validate(held, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(held | {"gat": {}}, schema)
        return
    ran(path)
    found = json.loads((place / "gate.json").read_text())
    jsonschema.validate(found if what == "gate" else found["rows"][0]["result"], schema)


def test_no_schema_of_that_name(run):
    code, _, err = run("schema", "files")
    assert code == 2
    assert "use one of result, gate, file" in err
