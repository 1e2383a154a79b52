"""WGT13: weights against the digests that were pinned, by what the hub lists where their bytes are elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.benches import run_short
from tests.shards import write_gguf, write_model
from tests.test_probe_weights import _bench as bench_of
from tests.test_probe_weights import _findings as findings
from tests.test_probe_weights import _pin as pin
from tests.test_probe_weights import _yields as yields
from wirecheck.errors import CannotRun
from wirecheck.lock_records import LOCKED_REMEDY
from wirecheck.probes.weights import WEIGHTS
from wirecheck.schema import Finding, LockedSide, Pin, Policy, Severity
from wirecheck.snapshot import ModelRef, Snapshot, parse_ref, take
from wirecheck.weight_files import Listed, WeightFile, git_sha1_of, sha256_of

DIGITS = {"sha256": 64, "git_sha1": 40}


@pytest.mark.parametrize("digest", ["sha256", "git_sha1"])
def test_wgt13_of_bytes_elsewhere_goes_by_what_the_hub_lists(tmp_path, digest):
    ours, other = "a" * DIGITS[digest], "b" * DIGITS[digest]
    file = WeightFile("model.safetensors", None, 100, "safetensors")
    listed = (Listed("config.json", 9, other), Listed(file.name, 100, ours))
    snapshot = Snapshot(
        ModelRef("o/n", "hub", "o/n"), "0" * 40, tmp_path, ("config.json", file.name), (file,), listed=listed
    )
    [kept] = findings(snapshot, "WGT13", Pin(subject="a", file=file.name, **{digest: ours}))
    assert (kept.severity, kept.evidence[0].observed, kept.evidence[0].expected) == (Severity.OK, ours, ours)
    [moved] = findings(snapshot, "WGT13", Pin(subject="a", file=file.name, **{digest: other}))
    assert (moved.severity, moved.evidence[0].observed, moved.evidence[0].expected) == (Severity.BLOCK, ours, other)


def test_wgt13_of_bytes_elsewhere_says_nothing_by_a_digest_of_another_kind(tmp_path):
    file = WeightFile("model.safetensors", None, 100, "safetensors")
    listed = (Listed(file.name, 100, "a" * 40),)
    snapshot = Snapshot(ModelRef("o/n", "hub", "o/n"), "0" * 40, tmp_path, (file.name,), (file,), listed=listed)
    with pytest.raises(CannotRun, match=r"model\.safetensors"):
        yields(snapshot, pin(file.name, b""))


def test_wgt13_by_gits_name_for_a_file_on_this_disk(tmp_path):
    folder = write_model(tmp_path)
    name = git_sha1_of(folder / "config.json")
    [kept] = findings(folder, "WGT13", Pin(subject="a", file="config.json", git_sha1=name))
    assert (kept.severity, kept.evidence[0].observed) == (Severity.OK, name)
    [gone] = findings(folder, "WGT13", Pin(subject="a", file="merges.txt", git_sha1=name))
    assert (gone.severity, gone.evidence[0].expected) == (Severity.BLOCK, name)


def test_wgt13_of_a_file_in_a_folder_below(tmp_path):
    """Which the list of a folder does not name."""
    folder = write_model(tmp_path / "m")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"graph")
    [kept] = findings(folder, "WGT13", pin("onnx/model.onnx", b"graph"))
    assert kept.severity == Severity.OK
    [changed] = findings(folder, "WGT13", pin("onnx/model.onnx", b"other"))
    assert (changed.severity, "is not there" in changed.claim) == (Severity.BLOCK, False)
    [gone] = findings(folder, "WGT13", pin("onnx/other.onnx", b"graph"))
    assert (gone.severity, "is not there" in gone.claim) == (Severity.BLOCK, True)


@pytest.mark.parametrize("way", ["../outside", "onnx/../../outside", "{absolute}"])
def test_wgt13_of_a_way_out_of_the_folder_is_of_no_file(tmp_path, way):
    folder = write_model(tmp_path / "m")
    (folder / "onnx").mkdir()
    outside = tmp_path / "outside"
    outside.write_bytes(b"bytes")
    [gone] = findings(folder, "WGT13", pin(way.format(absolute=outside), b"bytes"))
    assert (gone.severity, "is not there" in gone.claim) == (Severity.BLOCK, True)


def test_wgt13_of_a_lock_says_how_to_bring_it_back(tmp_path):
    folder = write_model(tmp_path)
    pins = (pin("model.safetensors", b"other"), pin("merges.txt", b""))
    unlocked = findings(folder, "WGT13", *pins)
    locked = Policy(pins=pins, locked=(LockedSide(subject="a", commit="0" * 40, files=("model.safetensors",)),))
    locked_bench = replace(bench_of(take(parse_ref(str(folder)))), policy=locked)
    found = [f for f in WEIGHTS.run(locked_bench) if isinstance(f, Finding) and f.code == "WGT13"]
    assert [f.remedy for f in found] == [LOCKED_REMEDY, LOCKED_REMEDY]
    assert LOCKED_REMEDY not in [f.remedy for f in unlocked]


def test_wgt13_says_where_the_digest_was_read(tmp_path):
    """The bytes where they are on this disk, wherever they are kept; the list where they are not."""
    held = tmp_path / "store" / "blob"
    held.parent.mkdir()
    held.write_bytes(b"bytes")
    here = WeightFile("a.safetensors", held, 5, "safetensors")
    away = WeightFile("b.safetensors", None, 5, "safetensors")
    ours, digest = "a" * 64, sha256_of(held)
    listed = tuple(Listed(file.name, 5, ours) for file in (here, away))
    names = (here.name, away.name)
    snapshot = Snapshot(ModelRef("o/n", "hub", "o/n"), "0" * 40, tmp_path, names, (here, away), listed=listed)
    pins = [Pin(subject="a", file=name, sha256=ours) for name in names]
    moved, kept = findings(snapshot, "WGT13", *pins)
    assert moved.claim == "a.safetensors has another digest than is pinned."
    assert (moved.evidence[0].observed, moved.evidence[0].source) == (digest, f"a.safetensors@{'0' * 12}")
    assert kept.claim == "The hub lists b.safetensors with the digest that is pinned."
    assert (kept.evidence[0].observed, kept.evidence[0].source) == (ours, f"b.safetensors@{'0' * 12}")


def test_wgt13_claims_nothing_of_bytes_that_are_nowhere_and_judges_the_next(tmp_path):
    """Neither of weights nor of another file; the run ends as skipped for them, once the rest is judged."""
    (tmp_path / "config.json").write_text("{}")
    names = ("config.json", "merges.txt", "model.safetensors")
    away = WeightFile("model.safetensors", None, 100, "safetensors")
    snapshot = Snapshot(ModelRef("o/n", "hub", "o/n"), "0" * 40, tmp_path, names, (away,))
    bench = bench_of(snapshot, pin("merges.txt", b""), pin("model.safetensors", b""), pin("config.json", b"{}"))
    output, why = run_short(WEIGHTS, bench)
    assert [finding.claim for finding in output.of("WGT13")] == ["config.json has the digest that is pinned."]
    assert "merges.txt, model.safetensors" in why


def test_wgt13_of_a_file_beside_a_gguf_that_is_none_of_the_model(tmp_path):
    path = write_gguf(tmp_path / "m.gguf")
    (tmp_path / "merges.txt").write_bytes(b"beside")
    [finding] = findings(path, "WGT13", pin("merges.txt", b"beside"))
    assert finding.claim == "merges.txt, whose digest is pinned, is not there."
