"""HUB04, WGT13 and ENV01 by the probe alone: what can move, what the lock does not know, what is installed."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.benches import Output, config_folder, model_bench, run
from tests.gguf_bytes import whole
from wirecheck.codes import CODES
from wirecheck.lock_records import LOCKED_REMEDY
from wirecheck.probe import ModelBench
from wirecheck.probes.lock import LOCK
from wirecheck.schema import LockedSide, Policy, WireSpec
from wirecheck.weight_files import Listed

SOUND = "test_what_is_locked_is_there_and_nothing_else"
pytestmark = pytest.mark.usefixtures("said")
COMMIT, OTHER = "c0ffee" * 6 + "cafe", "d00d" * 10


def locked(bench: ModelBench, **changed: Any) -> ModelBench:
    """The bench under a lock of what lies there, but for notes and for what is changed."""
    files = tuple(name for name in bench.snapshot.files if name != "README.md")
    side = LockedSide(subject="a", commit=bench.snapshot.commit, files=files)
    bench.policy = Policy(locked=(side.model_copy(update=changed),))
    return bench


def hub(bench: ModelBench, revision: str | None, *listed: str) -> ModelBench:
    """The bench as if its folder held a commit of the hub, which lists these files."""
    ref = replace(bench.snapshot.ref, kind="hub", name="org/name", revision=revision)
    names = tuple(Listed(name, None, None) for name in listed)
    bench.snapshot = replace(bench.snapshot, ref=ref, commit=COMMIT, listed=names)
    return bench


def folder_bench(folder: Path) -> ModelBench:
    """A folder with a config and notes, which are no part of a model."""
    (config_folder(folder) / "README.md").write_text("notes")
    return model_bench(folder)


def remedies(output: Output, code: str) -> list[str | None]:
    """Those of one code's findings."""
    return [finding.remedy for finding in output.of(code)]


# --- HUB04 -----------------------------------------------------------------------------------------------------------


def test_hub04_silent_on_a_folder(tmp_path):
    assert run(LOCK, folder_bench(tmp_path)).severity("HUB04") == "ok"


def test_hub04_silent_on_a_commit(tmp_path):
    assert run(LOCK, hub(folder_bench(tmp_path), COMMIT)).severity("HUB04") == "ok"


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:12]])
def test_hub04_fires_on_what_can_move(tmp_path, revision):
    output = run(LOCK, hub(folder_bench(tmp_path), revision))
    assert output.severity("HUB04") == "warn"
    (remedy,) = remedies(output, "HUB04")
    assert remedy.startswith("Pin it: `wirecheck lock`")
    assert remedy.endswith(f'revision = "{COMMIT}".')


# --- WGT13 -----------------------------------------------------------------------------------------------------------


def test_what_is_locked_is_there_and_nothing_else(tmp_path):
    output = run(LOCK, locked(folder_bench(tmp_path)))
    assert [(finding.code, finding.severity) for finding in output.findings] == [("HUB04", "ok"), ("WGT13", "ok")]


def test_a_lock_of_the_other_side_is_not_asked(tmp_path):
    assert run(LOCK, locked(folder_bench(tmp_path), subject="b", commit=OTHER)).of("WGT13") == []


def test_wgt13_fires_on_another_commit(tmp_path):
    output = run(LOCK, locked(folder_bench(tmp_path), commit=OTHER))
    assert output.severity("WGT13") == "block"
    assert output.claim("WGT13").endswith(", and d00dd00dd00d is locked.")
    assert remedies(output, "WGT13") == [LOCKED_REMEDY]


def test_wgt13_names_three_files_that_the_lock_does_not_know(tmp_path):
    """Of another commit, which these files then explain."""
    bench = folder_bench(tmp_path)
    for name in ("a.bin", "b.py", "c.safetensors", "d.pt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "below" / "deep").mkdir(parents=True)
    (tmp_path / "below" / "deep" / "own.py").write_text("")
    output = run(LOCK, locked(bench, commit=OTHER))
    named = [finding.claim.partition(" is there")[0] for finding in output.of("WGT13")]
    assert named == ["a.bin", "b.py", "below/deep/own.py"]
    assert all(remedy.startswith("Take it away, or look at what it changes") for remedy in remedies(output, "WGT13"))


def test_wgt13_of_a_folder_that_grew_by_a_file_at_the_same_commit(tmp_path):
    """The digest of a folder is of what is read of it, and this is not."""
    bench = locked(folder_bench(tmp_path))
    (tmp_path / "a.bin").write_bytes(b"")
    assert [finding.severity for finding in run(LOCK, bench).of("WGT13")] == ["block", "ok"]


@pytest.mark.parametrize(("commit", "severities"), [(COMMIT, ["ok"]), (OTHER, ["block"])])
def test_wgt13_knows_what_the_hub_lists_at_the_locked_commit_alone(tmp_path, commit, severities):
    bench = locked(hub(folder_bench(tmp_path), COMMIT, "config.json", "a.bin"), commit=commit, files=("config.json",))
    (tmp_path / "a.bin").write_bytes(b"")
    output = run(LOCK, bench)
    assert [finding.severity for finding in output.of("WGT13")] == severities
    assert ("a.bin is there" in output.of("WGT13")[0].claim) == (commit == OTHER)


def test_wgt13_looks_at_nothing_beside_a_gguf_file(tmp_path):
    (tmp_path / "m.gguf").write_bytes(whole())
    (tmp_path / "other.gguf").write_bytes(b"")
    (tmp_path / "config.json").write_text("{}")
    bench = model_bench(tmp_path / "m.gguf")
    assert [finding.severity for finding in run(LOCK, locked(bench)).of("WGT13")] == ["ok"]
    extra, same = run(LOCK, locked(bench, files=())).of("WGT13")
    assert (extra.claim, same.severity) == ("m.gguf is there, and the lock has no such file.", "ok")


# --- ENV01 -----------------------------------------------------------------------------------------------------------


def versions(folder: Path, *pinned: tuple[str, str]) -> Output:
    """The run under a lock of these versions."""
    bench = folder_bench(folder)
    bench.policy = Policy(versions=pinned)
    return run(LOCK, bench)


def test_env01_silent_on_what_is_installed(tmp_path):
    output = versions(tmp_path, ("python", platform.python_version()), ("pytest", pytest.__version__))
    assert output.severity("ENV01") == "ok"


def test_env01_is_not_asked_without_versions(tmp_path):
    assert versions(tmp_path).of("ENV01") == []


def test_env01_fires_on_what_is_not_installed(tmp_path):
    output = versions(tmp_path, ("python", platform.python_version()), ("no-such-thing", "1.0"), ("nor-this", "2.0"))
    assert output.severity("ENV01") == "block"
    told = "`pip install no-such-thing==1.0 nor-this==2.0`"
    assert remedies(output, "ENV01") == [f"Install what is locked ({told}), or lock again on this machine."]


def test_env01_has_no_command_for_another_python(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "python_version", lambda: "3.0.0")
    output = versions(tmp_path, ("python", "3.0.1"))
    assert output.severity("ENV01") == "block"
    assert remedies(output, "ENV01") == [CODES["ENV01"].remedy]


# --- whether it is asked at all --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        (Policy(), False),
        (Policy(fixed_revisions=True), True),
        (Policy(versions=(("python", "3.0"),)), True),
        (Policy(locked=(LockedSide(subject="a", commit=COMMIT, files=()),)), True),
    ],
)
def test_the_probe_runs_where_something_of_it_is_asked(policy, asked):
    assert LOCK.asked(WireSpec(), policy) is asked
