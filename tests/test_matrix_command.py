"""`wirecheck matrix` and `wirecheck cache` as commands."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests import warm
from tests.matrices import NAMES, REQUEST, hostile, survey
from wirecheck import cli_matrix
from wirecheck.cli_matrix_files import check_endings
from wirecheck.cli_matrix_slurm import attached, begin
from wirecheck.errors import UsageError
from wirecheck.matrix import Survey
from wirecheck.matrix_asked import Asked, Output
from wirecheck.matrix_records import Matrix, MatrixModel
from wirecheck.matrix_tally import Tally, ranked


@pytest.fixture
def place(four_models: Path) -> Path:
    return four_models


# --- the command -------------------------------------------------------------------------------------------------


def command(place: Path, *words: str, **changed: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | changed | {"WIRECHECK_CACHE": str(place / "cache"), "NO_COLOR": "1", "COLUMNS": "100"}
    return warm.wirecheck(words, place, environment)


INSPECTED = ("--depth", "inspected", "--require", "inspected")


def test_the_command_and_its_files(place):
    endings = ("md", "html", "csv", "jsonl", "parquet")
    reports = [word for ending in endings for word in ("--report", f"out/m.{ending}")]
    words = ("./one", "./two", "./three", *INSPECTED, "--json", "m.json", "--reports", "out/pairs", "--top", "2")
    done = command(place, "matrix", *words, *reports)
    assert done.returncode == 0, done.stderr
    assert "3 models, 3 pairs: 3 compatible." in done.stdout
    found = cli_matrix.read_matrix(place / "m.json")
    assert (found.status, len(found.cells), found.command.startswith("wirecheck matrix ./one")) == ("finished", 3, True)
    assert len((place / "out/m.jsonl").read_text().splitlines()) == 3
    best = [f"{cell.a}+{cell.b}" for cell in ranked(found.cells)[:2]]
    made = {path.name for path in (place / "out/pairs").iterdir()}
    assert made == {f"{name}.{ending}" for name in best for ending in ("html", "md")}
    page = (place / "out/m.html").read_text()
    for name in best:
        assert f'href="pairs/{name.replace("+", "%2B")}.html"' in page
        assert f"(pairs/{name.replace('+', '%2B')}.md)" in (place / "out/m.md").read_text()
        assert f"# wirecheck: {name.replace('+', ' + ')}" in (place / f"out/pairs/{name}.md").read_text()
    held = command(place, "cache").stdout
    assert "3 of kind model" in held
    assert "2 of kind pair of a matrix" in held
    assert command(place, "cache", "--clear").returncode == 0
    assert "nothing is kept" in command(place, "cache").stdout


def test_the_command_with_a_model_that_is_not_there(place):
    (place / "list.txt").write_text("./one\n./two\n./nowhere\n")
    done = command(place, "matrix", "--from", "list.txt", *INSPECTED, "--against", "./one", "--top", "1")
    assert done.returncode == 4
    assert "nowhere: there is no folder ./nowhere" in " ".join(done.stdout.split())
    assert "3 models, 2 pairs" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("./one",), "two models at least"),
        (("./one", "./one"), "two models at least"),
        (("./one", "./two", "--against", "five"), "--against five"),
        (("./one", "./two", "--report", "m.pdf"), "ending .pdf"),
        (("./one", "./two", "--only", "x*"), "--only x*"),
        (("./one", "./two", "--executor", "cloud"), "use local or slurm"),
        (("./one", "./two", "--slurm-gpus", "1"), "--slurm-gpus is read by the executor slurm"),
        (("./one", "./two", "--run", "r"), "--run is read by the executor slurm"),
        (("./one", "./two", "--executor", "slurm", "--slurm-option", "qos"), "not KEY=VALUE"),
        (("--attach", "one"), "no run of a matrix"),
        (("./one", "./two", "--executor", "slurm", "--slurm-option", "a=b\nc"), "not KEY=VALUE"),
        (("./one", "./two", "--json", "one"), "one: is a folder"),
        (("--cancel",), "--cancel is of a run"),
        (("--attach", "one", "--pair-seconds", "7"), "--pair-seconds is given beside it"),
        (("--attach", "one", "--executor", "nonsense"), "--executor is given beside it"),
        (("./one", "--attach", "one"), "a model is given beside it"),
        (("--attach", "one", "--depth", "inspected"), "--depth is given beside it"),
    ],
)
def test_usage(place, words, says):
    done = command(place, "matrix", *words)
    assert (done.returncode, says in done.stderr) == (2, True)


def test_models_of_a_file_and_only_some_of_them(place):
    tables = [f'[models.m-{name}]\nid = "./{name}"\n' for name in NAMES]
    (place / "wirecheck.toml").write_text("".join(tables) + "[models.m-one.expect]\nhidden_size = 1\n")
    done = command(
        place, "matrix", "--config", "wirecheck.toml", *INSPECTED, "--only", "m-t*", "--only", "*/one", "--json", "-"
    )
    assert done.returncode == 0, done.stderr
    found = Matrix.model_validate_json(done.stdout)
    assert [model.name for model in found.models] == ["m-one", "m-two", "m-three"]
    assert "what is expected of models is read by wirecheck gate" in done.stderr
    (place / "sided.toml").write_text('[[policy.expectations]]\nsubject = "a"\nkey = "hidden_size"\nvalue = 1\n')
    done = command(place, "matrix", "./one", "./two", "--config", "sided.toml")
    assert (done.returncode, "expectations of [policy] are of one side" in done.stderr) == (2, True)


def test_parquet_without_its_library_is_said_before_anything_is_run(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match="pyarrow, which is not installed"):
        check_endings([Path("m.parquet")])


def test_two_runs_at_once_on_one_store(place):
    environment = os.environ | {"WIRECHECK_CACHE": str(place / "cache")}
    line = [sys.executable, "-m", "wirecheck.cli", "matrix", *(f"./{name}" for name in NAMES), *INSPECTED, "--json"]
    both = [
        subprocess.Popen([*line, f"{n}.json"], cwd=place, env=environment, stdout=-3, stderr=subprocess.PIPE)
        for n in range(2)
    ]
    assert [(one.communicate(), one.returncode)[1] for one in both] == [0, 0]
    for n in range(2):
        found = cli_matrix.read_matrix(place / f"{n}.json")
        assert [cell.outcome for cell in found.cells] == ["compatible"] * 6


@pytest.mark.parametrize("columns", ["50", "140"])
def test_verdicts_are_whole_in_any_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    found = hostile()
    text = cli_matrix.terminal_text(found, Tally.of(found))
    assert all(word in text for word in ("incompatible", "compatible", "unproven", "CFG11"))
    assert ("warnings" in text) == (columns == "140")
    assert "\x1b[2J" not in text


def test_a_store_of_another_version_is_said_and_nothing_is_lost(place):
    (place / "cache").mkdir()
    with closing(sqlite3.connect(place / "cache" / "answers.sqlite")) as database:
        database.execute("pragma user_version = 99")
    done = command(place, "matrix", "./one", "./two", *INSPECTED)
    assert (done.returncode, "1 compatible" in done.stdout) == (0, True)
    assert "made in format 99" in done.stderr
    assert "next: wirecheck cache --clear" in done.stderr


def test_a_run_is_not_begun_twice_in_one_folder_and_goes_on_as_asked(place, monkeypatch):
    def asked(folder: str) -> Asked:
        output = Output(report=("x.md",))
        parts = {"wire": REQUEST.wire, "train": REQUEST.train, "policy": REQUEST.policy, "seed": 0, "command": "w"}
        limits = {"jobs": None, "model_seconds": 1.0, "pair_seconds": 1.0, "memory_bytes": 1}
        named = {"models": {"a": "./one"}, "against": None, "offline": True, "fresh": False}
        return Asked(folder=folder, output=output, **parts, **limits, **named)

    monkeypatch.chdir(place)
    made = begin(Path("run"), asked(str(place)))
    with pytest.raises(UsageError, match="a run was begun there"):
        begin(Path("run"), asked(str(place)))
    other = begin(None, asked("/nowhere/at/all"))
    assert other.parent.name == "wirecheck-runs"
    (place / made).chmod(0o777)
    with pytest.raises(UsageError, match="others may write there"):
        attached(place / made)
    (place / made).chmod(0o700)
    monkeypatch.chdir(place / "one")
    assert attached(place / made) == asked(str(place))
    assert Path.cwd() == place
    with pytest.raises(UsageError, match="/nowhere/at/all, where the run was begun, cannot be entered"):
        attached(other)


def test_bars_tell_rates_on_a_terminal(place):
    told = io.StringIO()
    console = Console(file=told, force_terminal=True, width=120)
    with cli_matrix.Watch(console) as watch:
        watch.expect(2, 1000)
        for _ in range(2):
            watch.model(MatrixModel(name="\x1b[31mred", ref="r"), kept=False)
        watch.judged(500)
        watch.told("slurm: 3 open")
        watch.judged(1000)
        bars = watch._bar.get_renderable()
        console.print(bars)
    shown = told.getvalue()
    assert "1000/1000" in shown
    assert "/s" in shown
    assert "slurm: 3 open" in shown
    assert "\x1b[31mred" not in shown


def test_a_line_of_a_list_that_names_nothing_costs_its_row(place):
    (place / "list.txt").write_text("./one\n./two\nbad\x1b[0mname\n")
    done = command(place, "matrix", "--from", "list.txt", *INSPECTED, "--json", "m.json")
    assert (done.returncode, "3 models, 3 pairs" in done.stdout) == (4, True)
    found = cli_matrix.read_matrix(place / "m.json")
    assert [cell.outcome for cell in found.cells] == ["compatible", "could-not-check", "could-not-check"]
    assert "names no model" in found.models[-1].why


def test_a_pair_that_is_not_judged_is_no_success(place):
    line = [sys.executable, "-m", "wirecheck.cli", "matrix", "./one", "./two", "--depth", "simulated"]
    environment = os.environ | {"WIRECHECK_CACHE": str(place / "cache"), "NO_COLOR": "1", "COLUMNS": "100"}
    limit = ("--pair-seconds", "1")  # too little where torch is still to be imported: a fork of a warm process has it
    done = subprocess.run([*line, *limit], cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "could-not-check" in done.stdout) == (4, True)


def test_ctrl_c_among_the_reports_of_pairs_keeps_those_that_are_made(place, monkeypatch, capsys):
    made = survey(place)
    whole = Survey.results

    def cut(self: Survey, pairs):
        yield next(whole(self, pairs))
        raise KeyboardInterrupt

    monkeypatch.setattr(Survey, "results", cut)
    output = {"report": (str(place / "m.md"),), "reports": str(place / "pairs"), "json_file": "-"}
    asked = SimpleNamespace(output=Output(**output), paths=[place / "m.md"])
    with cli_matrix.Watch(Console(file=io.StringIO())) as watch:
        assert cli_matrix._finish(made, watch, asked) == (True, True)
    assert Matrix.model_validate_json(capsys.readouterr().out).status == "finished"
    assert len(list((place / "pairs").glob("*.md"))) == 1
    assert (place / "m.md").read_text().count("(pairs/") == 1


def test_ctrl_c_during_the_last_row_is_not_lost(place, monkeypatch):
    made, add = survey(place), cli_matrix.MatrixFiles.add

    def interrupted(self, cell):
        if cell == list(made.cells())[-1]:
            signal.raise_signal(signal.SIGINT)
        add(self, cell)

    monkeypatch.setattr(cli_matrix.MatrixFiles, "add", interrupted)
    asked = SimpleNamespace(output=Output(reports=str(place / "pairs")), paths=[place / "m.md"])
    with cli_matrix.Watch(Console(file=io.StringIO())) as watch:
        assert cli_matrix._finish(made, watch, asked) == (True, True)
    assert (place / "m.md").exists()
    assert not (place / "pairs").exists()


def test_a_run_is_attached_to_from_any_folder(place):
    words = ("./one", "./two", "--executor", "slurm", "--run", "runs/r", "--json", "m.json", *INSPECTED)
    away = {"PATH": str(place)}  # there is no Slurm
    assert command(place, "matrix", *words, **away).returncode == 2
    for more in ((), ("--cancel",)):
        done = command(place / "runs", "matrix", "--attach", "r", *more, **away)
        assert done.returncode == 2, done.stderr
        assert not (place / "r").exists(), "another run was begun"
