"""`wirecheck architectures`: rows of every kind, resumption, the command; the shrinker against real classes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wirecheck import architecture_study, architectures, zoo_defaults, zoo_twin
from wirecheck.architecture_records import Architecture, ArchitectureTable, Trouble
from wirecheck.architectures import Shelf, chosen_types, make_rows, survey
from wirecheck.cache_folder import cache_home
from wirecheck.errors import CannotRun, UsageError
from wirecheck.fork_pool import Died
from wirecheck.model_types import causal_model_types

SAMPLE = ("llama", "gpt2", "mamba", "musicgen")


class Seen:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, bool]] = []

    def row(self, row: Architecture, *, shelved: bool) -> None:
        self.rows.append((row.model_type, shelved))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("WIRECHECK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rows_of(*types: str, limit_s: float = 60.0) -> dict[str, Architecture]:
    return {row.model_type: row for row in make_rows(types, seed=0, jobs=2, limit_s=limit_s)}


# --- rows --------------------------------------------------------------------------------------------------------


def test_a_row_holds_every_code_of_the_probes() -> None:
    rows = rows_of(*SAMPLE)
    asked = {code for probe in architecture_study.probes() for code in probe.codes}
    assert {"EMB01", "EMB05", "EMB10", "CFG10"} <= asked
    llama = rows["llama"]
    assert (llama.class_name, llama.trouble, llama.given) == ("LlamaForCausalLM", None, ())
    assert {check.code for check in llama.checks} == asked - {"CFG10"} | {"CFG10"}
    assert {check.severity for check in llama.checks} == {"ok"}
    assert {run.kind for run in llama.runs} == {"ran"}
    assert "attention MHA" in llama.kept
    assert "hidden_size 4096 -> 64" in llama.changed
    noted = rows["gpt2"].check("EMB10")
    assert noted is not None
    assert noted.severity == "note"
    assert noted.evidence


def test_a_default_that_upstream_cannot_build_is_told_with_its_error() -> None:
    trouble = rows_of("musicgen")["musicgen"].trouble
    assert trouble is not None
    assert trouble.cause == "upstream"
    assert "'MusicgenConfig' object has no attribute 'dropout'" in trouble.words


def test_a_default_that_lacks_something_is_completed_and_said() -> None:
    row = rows_of("ministral")["ministral"]
    assert row.given == ("head_dim = 128",)
    assert row.default_refused is not None
    assert "unsupported operand" in row.default_refused
    assert row.built
    assert row.checks


@pytest.mark.parametrize("kind", sorted(zoo_defaults.GIVEN))
def test_what_is_given_is_needed(kind: str) -> None:
    """A default that runs by itself and attends forward through layers of each kind needs nothing."""
    refused = zoo_defaults.why_refused(kind)
    other_kind = {"bamba": "attn_layer_indices", "granitemoehybrid": "layer_types", "xlm": "causal"}
    assert (refused is None) == (kind in other_kind)
    assert zoo_defaults.default_config(kind).refused == refused


def test_a_probe_that_crashes_is_a_row_with_its_story(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    def crash(_: Any) -> Any:
        raise ZeroDivisionError("planted")
        yield

    first, *others = architecture_study.probes()
    monkeypatch.setattr(architecture_study, "MODEL_PROBES", (replace(first, run=crash), *others))
    row = rows_of("llama")["llama"]
    assert row.runs[0].kind == "crashed"
    assert row.runs[0].why == "ZeroDivisionError: planted"
    assert row.trouble is not None
    assert row.trouble.cause == "wirecheck"
    assert row.built


def test_a_fault_of_ours_a_kill_and_a_hang_cost_one_row_each(monkeypatch: pytest.MonkeyPatch) -> None:
    study = architecture_study.study

    def faulty(model_type: str, **options: Any) -> Architecture:
        match model_type:
            case "gpt2":
                raise KeyError("planted")
            case "opt":
                os.kill(os.getpid(), signal.SIGKILL)
            case "bloom":
                time.sleep(120)
        return study(model_type, **options)

    monkeypatch.setattr(architecture_study, "study", faulty)
    rows = rows_of("llama", "gpt2", "opt", "bloom", limit_s=10.0)
    assert rows["llama"].trouble is None
    assert rows["gpt2"].trouble == Trouble(cause="wirecheck", words="KeyError: 'planted'")
    assert rows["opt"].trouble == Trouble(cause="ended", words="its process was ended by SIGKILL")
    assert rows["bloom"].trouble == Trouble(cause="ended", words="still running after its time limit of 10 s")


def test_a_twin_that_only_we_cannot_make_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: Any, **__: Any) -> Any:
        raise CannotRun("planted")

    monkeypatch.setattr(zoo_twin, "twin", cannot)
    trouble = rows_of("llama")["llama"].trouble
    assert trouble is not None
    assert (trouble.cause, trouble.words) == ("wirecheck", "built at its own size, but not as a twin: planted")


def test_types_that_no_transformers_has_are_refused() -> None:
    with pytest.raises(UsageError, match=r"lama: transformers .* has no causal LM") as told:
        chosen_types(["lama"])
    assert told.value.next_step == "wirecheck architectures llama"
    assert set(chosen_types([])) == causal_model_types()
    assert chosen_types(["opt", "gpt2", "opt"]) == ("gpt2", "opt")


# --- resumption --------------------------------------------------------------------------------------------------


def made(rows: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """make_rows, but instant; writes down the types it is asked for."""

    def instant(types: Any, **_: Any) -> Any:
        for kind in types:
            rows.append(kind)
            if kind == "interrupts":
                raise KeyboardInterrupt
            ended = kind == "ended"
            yield architectures.row_of(Died(kind, "killed", 1.0)) if ended else Architecture(model_type=kind, seconds=1)

    monkeypatch.setattr(architectures, "make_rows", instant)


def run(types: tuple[str, ...], *, fresh: bool = False, seed: int = 0) -> tuple[ArchitectureTable, Seen]:
    seen = Seen()
    return survey(types, seen, seed=seed, jobs=1, fresh=fresh, command="c"), seen


def test_finished_rows_are_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    made(asked, monkeypatch)
    first, _ = run(("a", "b"))
    second, seen = run(("a", "b", "c"))
    assert asked == ["a", "b", "c"]
    assert seen.rows == [("a", True), ("b", True), ("c", False)]
    assert second.rows[:2] == first.rows
    run(("a",), fresh=True)
    run(("a",), seed=1)
    assert asked == ["a", "b", "c", "a", "a"]


def test_an_interruption_loses_nothing_that_was_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    made(asked, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(("a", "interrupts", "z"))
    asked.clear()
    run(("a", "z"))
    assert asked == ["z"]


def test_a_row_whose_process_was_ended_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    made(asked, monkeypatch)
    table, _ = run(("ended",))
    assert table.rows[0].trouble is not None
    run(("ended",))
    assert asked == ["ended", "ended"]


def test_other_code_is_another_shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = Shelf.of_this_machine(0)
    monkeypatch.setattr(architectures, "_PACKAGE", tmp_path)
    assert Shelf.of_this_machine(0) != before
    (tmp_path / "shrink.py").write_text("WIDTH = 32")
    changed = Shelf.of_this_machine(0)
    (tmp_path / "cli.py").write_text("no row depends on this")
    assert Shelf.of_this_machine(0) == changed


def test_a_broken_or_unwritable_shelf_costs_time_only(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    asked: list[str] = []
    made(asked, monkeypatch)
    run(("a",))
    (file,) = own_cache.rglob("a.json")
    file.write_text("{")
    run(("a",))
    assert asked == ["a", "a"]
    monkeypatch.setenv("WIRECHECK_CACHE", str(file))  # no folder can be made below a file
    run(("a",))
    assert len(asked) == 3


@pytest.mark.parametrize(("given", "expected"), [("", "home/.cache/wirecheck"), ("xdg", "xdg/wirecheck")])
def test_the_cache_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, expected: str) -> None:
    monkeypatch.delenv("WIRECHECK_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / given) if given else "")
    assert cache_home() == tmp_path / expected


# --- the command -------------------------------------------------------------------------------------------------


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-X", "importtime", "-m", "wirecheck.cli", "architectures", *words]
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(line, cwd=cwd, env=os.environ | path, capture_output=True, text=True, check=False)


def test_the_command_writes_its_files_and_answers_again_without_torch(tmp_path: Path) -> None:
    files = ("--json", "t.json", "--report", "t.md", "--report", "t.html")
    first = command("gpt2", "musicgen", *files, cwd=tmp_path)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "of 2 causal model types, 1 have a twin that was run" in first.stdout
    table = ArchitectureTable.model_validate_json((tmp_path / "t.json").read_text())
    assert [row.model_type for row in table.rows] == ["gpt2", "musicgen"]
    assert table.command == "wirecheck architectures gpt2 musicgen"
    assert (tmp_path / "t.html").read_text().startswith("<!doctype html>")
    again = command("gpt2", "musicgen", "--json", "-", cwd=tmp_path)
    assert json.loads(again.stdout) == json.loads((tmp_path / "t.json").read_text())
    assert "2 of 2 rows were made by an earlier run" in again.stderr
    loaded = {line.rsplit("|", 1)[-1].strip() for line in again.stderr.splitlines() if "import time" in line}
    assert not {"torch", "transformers"} & loaded
    assert "pydantic" in loaded


def test_the_command_refuses_what_it_cannot_do_before_it_runs(tmp_path: Path) -> None:
    assert command("--report", "t.sarif", cwd=tmp_path).returncode == 2
    assert command("lama", cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_keeps_the_rows_that_were_told(tmp_path: Path, own_cache: Path) -> None:
    line = [sys.executable, "-m", "wirecheck.cli", "architectures", "--jobs", "1"]
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(line, cwd=tmp_path, env=os.environ | path, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        told = [running.stderr.readline().split()[1] for _ in range(2)]
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
    assert running.returncode == 130
    assert "interrupted" in rest
    kept = {file.stem for file in own_cache.rglob("*.json")}
    assert set(told) <= kept
    assert len(kept) < 20
