"""Disks that fail, signals, processes that meet, clocks that jump: a small part of what docs/faults.md tells of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import bad_disks, signalled, warm
from tests.bad_disks import COMMANDS, Command
from tests.factories import pair_result
from tests.faultline import BROKEN, FULL, READ_ONLY
from tests.gates import gate, row
from tests.hubserver import Hub, many, serving
from tests.many_findings import made, views
from tests.test_hub_faults import FILES, FIRST, SHARDS, hub_environment
from wirecheck import zoo_warm
from wirecheck.cli_lock import read_lock
from wirecheck.cli_output import to_json
from wirecheck.gate_records import GateResult
from wirecheck.views import gate as gate_view
from wirecheck.views import sarif_limits
from wirecheck.views.console import MOST_SHOWN
from wirecheck.whole_file import Aside, put_whole

BY_NAME = {command.name: command for command in COMMANDS}
GATE = BY_NAME["gate"]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture(scope="module")
def old() -> str:
    """A result that the cheap commands read."""
    return to_json(pair_result(memory=None))


# --- disks ---


def good(tmp_path: Path, command: Command, old: str) -> tuple[subprocess.CompletedProcess[str], list[tuple[str, str]]]:
    place = bad_disks.laid_out(tmp_path / "good", command, old, has_old=True)
    done = bad_disks.run(place, command, {"log": tmp_path / "log"})
    return done, bad_disks.calls_of(tmp_path / "log")


@pytest.mark.parametrize("name", ["init", "diff"])
def test_every_kind_of_write_is_refused_once(tmp_path, name, old):
    command = Command(name, BY_NAME[name].words, BY_NAME[name].files, keeps_old=BY_NAME[name].keeps_old)
    undisturbed, calls = good(tmp_path, command, old)
    kinds = {kind: at for at, (kind, _) in reversed(list(enumerate(calls, 1)))}
    assert {"os.open", "os.write", "os.fsync", "os.replace"} <= kinds.keys()
    for kind in ("os.write", "os.replace"):
        place = bad_disks.laid_out(tmp_path / kind, command, old, has_old=True)
        done = bad_disks.run(place, command, {"at": kinds[kind], "error": FULL})
        assert list(bad_disks.wrongs(place, command, done, undisturbed)) == []
        assert (done.returncode, "No space left on device" in done.stderr) == (4, True)


@pytest.mark.parametrize(("error", "lasts"), [(FULL, True), (READ_ONLY, True), (BROKEN, False)])
def test_a_report_that_is_refused_keeps_no_other_and_no_verdict(tmp_path, old, error, lasts):
    command = BY_NAME["report"]
    place = bad_disks.laid_out(tmp_path / "bad", command, old, has_old=True)
    # the JSON is refused; where that lasts, all of them, and the folder in which pictures are cached
    done = bad_disks.run(place, command, {"at": 2, "error": error, "lasts": lasts})
    assert (done.returncode, done.stdout.count("COMPATIBLE")) == (4, 1)
    assert "error: r.json: not written: " in done.stderr
    assert "Traceback" not in done.stderr
    assert [name for name in command.files if (place / name).read_text() != bad_disks.OLD] == (
        [] if lasts else list(command.files[1:])
    )
    assert list(bad_disks.left_aside(place)) == []


def test_a_gate_on_a_disk_that_fills_up_says_its_verdict(tmp_path):
    place = bad_disks.laid_out(tmp_path / "bad", GATE, None, has_old=False)
    begins = {"only": (".g.md", str(place / ".g."), "g.", "./g.", str(place / "cache"), str(place / "summary"))}
    done = bad_disks.run(place, GATE, {"at": 8, "error": FULL, "lasts": True} | begins)
    assert done.returncode == 4
    assert "1 check compatible" in done.stdout
    assert "error: g." in done.stderr
    assert all(bad_disks.is_whole(place / name) for name in GATE.files if (place / name).exists())
    assert list(bad_disks.left_aside(place)) == []


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path):
    place = bad_disks.laid_out(tmp_path / "bad", GATE, None, has_old=False)
    disk = {"at": 1, "error": READ_ONLY, "lasts": True, "only": (str(place / "cache"),)}
    done = bad_disks.run(place, GATE, disk)
    assert (done.returncode, list(bad_disks.wrongs(place, GATE, done, done))) == (0, [])
    assert not list((place / "cache").rglob("*.sqlite"))


@linux
def test_children_that_say_what_they_said_before_change_no_write(tmp_path):
    """What the figures of docs/faults.md rest on: only the time is another."""
    (tmp_path / "answers").mkdir()
    seen = []
    for n, disk in enumerate(({}, {"at": 1_000_000})):
        place = bad_disks.laid_out(tmp_path / "run", BY_NAME["lock"], None, has_old=True)
        disk |= {"log": tmp_path / f"{n}.log", "answers": tmp_path / "answers"}
        done = bad_disks.run(place, BY_NAME["lock"], disk)
        calls = [(name, len(path)) for name, path in bad_disks.calls_of(disk["log"])]
        results = read_lock(place / "wirecheck.lock").results
        seen.append((done.returncode, done.stdout, calls, bad_disks.counted(disk["log"]), results))
    assert seen[0] == seen[1]
    assert seen[0][0] == 0
    assert list((tmp_path / "answers").iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this platform")
@pytest.mark.parametrize(("stream", "code", "unbuffered"), [("stdout", 4, ""), ("stdout", 4, "1"), ("stderr", 1, "")])
def test_a_stream_on_a_full_disk(tmp_path, stream, code, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    (tmp_path / "a.json").write_text(to_json(gate(row())))
    (tmp_path / "b.json").write_text(to_json(gate()))
    words = [sys.executable, "-m", "wirecheck.cli", "diff", "a.json", "b.json"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, cwd=tmp_path, text=True, check=False, **(streams | {stream: full}))
    assert done.returncode == code
    if stream == "stdout":
        assert done.stderr.splitlines()[0] == "error: stdout: not written: No space left on device"
    else:
        assert done.stdout


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """64 kB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if (
        not hasattr(os, "geteuid")
        or os.geteuid() != 0
        or subprocess.run(mount, capture_output=True, check=False).returncode != 0
    ):
        pytest.skip("a small disk can only be mounted by root, where the system lets it")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full_in_truth(small_disk):
    put_whole(small_disk / "r.json", "old")
    with pytest.raises(OSError, match="No space left"):
        put_whole(small_disk / "r.json", "x" * 100_000)
    assert [(path.name, path.read_text()) for path in small_disk.iterdir()] == [("r.json", "old")]


# --- what is left aside ---


def test_what_a_killed_writer_left_is_taken_away_and_nothing_else(tmp_path):
    (tmp_path / ".r.json.abcd1234.part").write_text("half")
    (tmp_path / ".r.json.of.another.part").write_text("of r.json.of.another, say")
    (tmp_path / ".other.json.abcd1234.part").write_text("half")
    living = Aside(tmp_path / "r.json")
    living.path.write_text("being written")
    put_whole(tmp_path / "r.json", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [".r.json.of.another.part", ".other.json.abcd1234.part", "r.json", living.path.name]
    )
    living.put_in_place()
    living.drop()
    assert (tmp_path / "r.json").read_text() == "being written"


# --- signals ---


@linux
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_gate_that_is_stopped_keeps_what_stands(tmp_path, number, code):
    place = bad_disks.laid_out(tmp_path / "run", GATE, None, has_old=False)
    words = [sys.executable, "-m", "wirecheck", *GATE.words]
    environment = bad_disks.environment(place, on_runner=False)
    with subprocess.Popen(words, cwd=place, env=environment, start_new_session=True, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not (place / "g.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        told = process.communicate(timeout=60)[1].decode()
    found = GateResult.model_validate_json((place / "g.json").read_text())
    assert (process.returncode, found.status) == (code, "interrupted")
    assert told.splitlines()[-1] == "error: interrupted before the end: nothing is certified"
    assert signalled.left(place) == ()
    assert list(bad_disks.left_aside(place)) == []


def test_an_interruption_waits_for_the_end_of_an_import(monkeypatch):
    done = []

    def build(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("after")
        raise RuntimeError("no class")

    library = SimpleNamespace(
        AutoConfig=SimpleNamespace(for_model=build), AutoModelForCausalLM=SimpleNamespace(_model_mapping={})
    )
    monkeypatch.setattr(zoo_warm, "transformers_library", lambda: library)
    monkeypatch.setattr(zoo_warm, "quiet", nullcontext)
    with pytest.raises(KeyboardInterrupt):
        zoo_warm.import_class("a type for this test")
    assert done == ["after"]


@pytest.mark.skipif(os.name != "posix", reason="exit codes of signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_run_that_is_stopped_before_it_is_imported(tmp_path, monkeypatch, name, code):
    (tmp_path / "typer.py").write_text(f"import signal\nsignal.raise_signal(signal.{name})\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    done = subprocess.run([sys.executable, "-m", "wirecheck"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (code, "error: interrupted\n", "")


# --- processes that meet, and clocks ---


def test_two_gates_on_one_cache_and_one_folder(tmp_path):
    place = bad_disks.laid_out(tmp_path / "run", GATE, None, has_old=False)
    environment = bad_disks.environment(place, on_runner=False)
    running = [warm.started(GATE.words, place, environment) for _ in range(2)]
    for done in [one.ended() for one in running]:
        assert (done.returncode, list(bad_disks.wrongs(place, GATE, done, done))) == (0, [])
    assert GateResult.model_validate_json((place / "g.json").read_text()).outcome == "compatible"


def test_a_clock_that_jumps_decides_nothing(tmp_path):
    place = bad_disks.laid_out(tmp_path / "run", GATE, None, has_old=False)
    for n in range(2):
        done = bad_disks.run(place, GATE, {"clock_jumps": 10.0})
        assert (done.returncode, list(bad_disks.wrongs(place, GATE, done, done))) == (0, [])
        found = GateResult.model_validate_json((place / "g.json").read_text())
        assert ([one.kept for one in found.rows], found.outcome) == ([bool(n)], "compatible")
        later = time.time() + 10 * 31_557_600
        os.utime(place / "cache" / "answers.sqlite", (later, later))


# --- many gates ---


def test_gates_at_once_against_one_hub(tmp_path):
    cut = dict(FILES) | {FIRST: FILES[FIRST][: len(FILES[FIRST]) // 2]}
    with serving(Hub(dict(FILES), frozenset(SHARDS))) as sound, serving(Hub(cut, frozenset(SHARDS))) as bad:
        hubs = {"org/sound": sound, "org/bad": bad}
        with many(hubs) as url:
            running = []
            for n, name in enumerate([*hubs] * 3):
                place = tmp_path / str(n)
                place.mkdir()
                (place / "wirecheck.toml").write_text(
                    f'[models.one]\nid = "{name}"\n[gate]\ndepth = "inspected"\nrequire = "inspected"\n'
                )
                environment = hub_environment(place, sound) | {"HF_ENDPOINT": url, "WIRECHECK_CACHE": f"{tmp_path}/c"}
                running.append(warm.started(("gate",), place, environment))
            codes = [one.ended().returncode for one in running]
    assert codes == [0, 1] * 3


# --- many findings ---


def test_a_terminal_lists_what_a_person_reads_and_counts_the_rest():
    shown = views()["terminal"](made(900, 5_000))
    assert shown.count("CFG11") == MOST_SHOWN
    assert "200 more: --json PATH, or --report PATH.html" in shown
    assert "characters more)" in shown


@pytest.mark.parametrize("name", ["annotations", "gate", "diff", "code quality", "markdown", "junit"])
def test_every_view_bears_a_thousand_findings(name):
    assert views()[name](made(1_000, 60))


def test_code_scanning_gets_no_more_runs_than_it_takes():
    found = gate(*(row(*made(6, 10).runs, a=f"m{n}") for n in range(30)))
    log = json.loads(gate_view.render_sarif(found))
    assert len(log["runs"]) == sarif_limits.MOST_RUNS
    assert sum(len(run["results"]) for run in log["runs"]) == 30 * 6
    last = log["runs"][-1]
    assert last["automationDetails"]["id"] == "wirecheck/and 10 more/"
    rules = [rule["id"] for rule in last["tool"]["driver"]["rules"]]
    assert all(rules[one["ruleIndex"]] == one["ruleId"] for one in last["results"])
    assert len(last["invocations"]) == 11


def test_code_scanning_gets_the_gravest_results_and_a_count(monkeypatch):
    monkeypatch.setattr(sarif_limits, "MOST_RESULTS", 5)
    (run,) = json.loads(views()["sarif"](made(9, 10)))["runs"]
    assert [one["level"] for one in run["results"]] == ["error", "warning", "error", "warning", "error"]
    told = run["invocations"][0]["toolExecutionNotifications"][-1]
    assert told["message"]["text"].startswith("4 results of the lowest level are left out.")
    assert told["descriptor"]["id"] in {one["id"] for one in run["tool"]["driver"]["notifications"]}
