"""`wirecheck lock`: what is pinned, what `--locked` refuses, what `--check` tells, and the variables of the job."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest

from tests.hubserver import COMMIT
from wirecheck import cli_gate, cli_lock
from wirecheck.cli_texts import lock_schema
from wirecheck.demo import demo_folders
from wirecheck.errors import CouldNotCheck, UsageError
from wirecheck.gate_records import GateResult
from wirecheck.lock_records import Lock, LockCheck, LockedFile

GATE = {"json": None, "report": None, "offline": True, "fresh": False, "locked": True, "prove_offline": False}
LOCK = {"gate": False, "json": None, "offline": True}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the two demo models, a wirecheck.toml of them, and a shelf of its own."""
    monkeypatch.setenv("WIRECHECK_CACHE", str(tmp_path / "cache"))
    a, b = demo_folders()
    shutil.copytree(a, tmp_path / "a")
    shutil.copytree(b, tmp_path / "b")
    (tmp_path / "wirecheck.toml").write_text(
        '[models.one]\nid = "./a"\n[models.two]\nid = "./b"\n[gate]\nrequire = "inspected"\n'
    )
    return tmp_path


def locked(place: Path, **options) -> Lock:
    assert cli_lock.lock_command(place / "wirecheck.toml", LOCK | options) == 0
    return cli_lock.read_lock(place / "wirecheck.lock")


def gated(place: Path, **options) -> tuple[int, GateResult]:
    code = cli_gate.gate_command(place / "wirecheck.toml", GATE | {"json": str(place / "gate.json")} | options)
    return code, cli_gate.read_gate_result(place / "gate.json")


def codes(found: GateResult, severity: str = "block") -> set[tuple[str, str]]:
    return {(f.code, str(f.subject)) for row in found.rows for f in row.result.findings if f.severity == severity}


# --- what is locked ----------------------------------------------------------------------------------------------


def test_every_file_that_is_read_is_locked_with_its_digest(place):
    lock = locked(place)
    for model, folder in zip(lock.models, ("a", "b"), strict=True):
        names = {file.name for file in model.files}
        assert {"config.json", "tokenizer.json"} < names
        assert any(name.endswith(".safetensors") for name in names)
        assert "README.md" not in names
        for file in model.files:
            data = (place / folder / file.name).read_bytes()
            assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert dict(lock.versions).keys() > {"python", "torch", "transformers"}
    jsonschema.validate(json.loads((place / "wirecheck.lock").read_text()), json.loads(lock_schema()))


def test_the_lock_holds_what_the_gate_said_and_a_locked_gate_runs_nothing_again(place):
    lock = locked(place, gate=True)
    assert [(one.a, one.b, one.outcome) for one in lock.results] == [("one", "two", "compatible")]
    code, found = gated(place)
    assert (code, found.rows[0].kept, found.rows[0].as_locked, found.asked_as_locked) == (0, True, True, True)


def test_a_file_that_asks_otherwise_than_when_it_was_locked_is_told(place, capsys):
    locked(place, gate=True)
    path = place / "wirecheck.toml"
    path.write_text(path.read_text() + "[wire]\nlatent_width = 100\n")  # eight heads do not divide it
    _, found = gated(place)
    assert found.rows[0].as_locked is False
    told = " ".join(capsys.readouterr().out.split())
    assert "not what the lock says of it" in told
    assert "asks otherwise than when it was locked" in told


def test_a_shard_that_is_not_whole_is_not_locked(place):
    shard = next((place / "a").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(CouldNotCheck, match="cannot be locked: truncated"):
        locked(place)
    assert not (place / "wirecheck.lock").exists()


def test_a_lock_that_cannot_be_made_leaves_the_old_one(place):
    locked(place)
    before = (place / "wirecheck.lock").read_bytes()
    shutil.rmtree(place / "b")
    with pytest.raises(CouldNotCheck):
        locked(place)
    assert (place / "wirecheck.lock").read_bytes() == before


def test_a_file_without_any_digest_is_no_locked_file():
    with pytest.raises(ValueError, match="no digest"):
        LockedFile(name="x", size=1)


# --- what is refused ---------------------------------------------------------------------------------------------


def test_nothing_changed_is_compatible(place):
    locked(place)
    code, found = gated(place)
    assert (code, codes(found)) == (0, set())
    sound = codes(found, "ok")
    assert {("WGT13", "a"), ("WGT13", "b"), ("ENV01", "a"), ("HUB04", "a")} <= sound


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json", "weights"])
def test_a_changed_byte_is_wgt13(place, name):
    locked(place)
    path = next((place / "b").glob("*.safetensors")) if name == "weights" else place / "b" / name
    data = bytearray(path.read_bytes())
    if name == "weights":
        data[-1] ^= 1
    else:
        data += b" "
    path.write_bytes(data)
    code, found = gated(place)
    assert code == 1
    assert codes(found) == {("WGT13", "b")}
    assert any(path.name in line and "another digest" in line for line in found.rows[0].why)


def test_a_file_that_the_lock_does_not_know_is_wgt13(place):
    locked(place)
    (place / "a" / "chat_template.jinja").write_text("{{ messages }}") if not (
        place / "a" / "chat_template.jinja"
    ).exists() else (place / "a" / "added_tokens.json").write_text("{}")
    code, found = gated(place)
    assert (code, codes(found)) == (1, {("WGT13", "a")})
    assert any("the lock has no such file" in line for line in found.rows[0].why)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "adapter_config.json", "sentencepiece.bpe.model", "vocab.bpe", "custom/mod.py"]
)
def test_whatever_a_loader_could_prefer_is_no_mere_neighbour(place, name):
    locked(place)
    (place / "a" / name).parent.mkdir(exist_ok=True)
    (place / "a" / name).write_bytes(b"{}")
    code, found = gated(place)
    assert (code, ("WGT13", "a") in codes(found)) == (1, True)


def test_notes_beside_a_model_are_no_part_of_it(place):
    (place / "a" / "pytorch_model.bin").write_bytes(b"beside the shards from the start")
    lock = locked(place)
    assert "pytorch_model.bin" in lock.models[0].beside
    (place / "a" / "notes.md").write_text("# read on")
    assert gated(place)[0] == 0


def test_a_model_in_no_pair_is_checked_too(place):
    shutil.copytree(place / "a", place / "c")
    path = place / "wirecheck.toml"
    path.write_text(path.read_text().replace("[gate]", '[models.three]\nid = "./c"\n[gate]\npairs = [["one", "two"]]'))
    locked(place)
    assert gated(place)[0] == 0
    (place / "c" / "config.json").write_text((place / "c" / "config.json").read_text() + " ")
    code, found = gated(place)
    assert (code, [row.name for row in found.rows]) == (1, ["one + two", "three"])


# --- kept answers never stand in for changed bytes ---------------------------------------------------------------


def cached(place: Path) -> Path:
    """Model one as a commit's folder in a hub's cache that has no links."""
    folder = place / "models--org--one" / "snapshots" / COMMIT
    shutil.copytree(place / "a", folder)
    path = place / "wirecheck.toml"
    path.write_text(path.read_text().replace("./a", f"./{folder.relative_to(place)}"))
    return folder


def test_an_edited_file_of_a_cached_commit(place):
    folder = cached(place)
    locked(place, gate=True)
    assert gated(place)[1].rows[0].kept
    (folder / "tokenizer_config.json").write_text((folder / "tokenizer_config.json").read_text() + " ")
    code, found = gated(place)
    assert (code, found.rows[0].kept) == (1, False)


def test_weights_of_the_same_size_and_time(place):
    locked(place, gate=True)
    path = next((place / "a").glob("*.safetensors"))
    seen, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    code, found = gated(place)
    assert (code, codes(found)) == (1, {("WGT13", "a")})


def test_a_locked_file_that_is_gone_is_wgt13(place):
    locked(place)
    (place / "a" / "generation_config.json").unlink()
    code, found = gated(place)
    assert code == 1
    assert ("WGT13", "a") in codes(found)
    assert any("generation_config.json" in line for line in found.rows[0].why)


def test_another_version_is_env01(place):
    lock = locked(place)
    versions = tuple((name, "0.0.1" if name == "tokenizers" else version) for name, version in lock.versions)
    (place / "wirecheck.lock").write_text(lock.model_copy(update={"versions": versions}).model_dump_json())
    code, found = gated(place)
    assert (code, codes(found)) == (1, {("ENV01", "a"), ("ENV01", "b")})
    assert any("tokenizers" in line and "locked: 0.0.1" in line for line in found.rows[0].why)
    remedies = [f.remedy for row in found.rows for f in row.result.findings if f.code == "ENV01"]
    assert all("pip install tokenizers==0.0.1" in remedy for remedy in remedies)


def test_without_locked_nothing_of_it_is_asked(place):
    locked(place)
    (place / "b" / "config.json").write_text((place / "b" / "config.json").read_text() + " ")
    code, found = gated(place, locked=False)
    assert code == 0
    assert not {"WGT13", "ENV01"} & {f.code for row in found.rows for f in row.result.findings}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('id = "./b"', 'id = "./a"', "two was locked as ./b, and the file says ./a"),
        ("[models.two]", "[models.three]", "the file names three, which is not locked"),
        ('[models.two]\nid = "./b"\n', "", "two is locked, and the file does not name it"),
    ],
)
def test_a_lock_of_other_models_is_refused(place, old, new, says):
    locked(place)
    path = place / "wirecheck.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UsageError, match=says) as stop:
        gated(place)
    assert stop.value.next_step == "wirecheck lock"


@pytest.mark.parametrize("text", [None, "", "{", '{"schema_version": 1}', "[]"])
def test_no_lock_is_a_usage_error(place, text):
    if text is not None:
        (place / "wirecheck.lock").write_text(text)
    with pytest.raises(UsageError, match=r"wirecheck\.lock") as stop:
        gated(place)
    assert "wirecheck lock" in stop.value.next_step


# --- lock --check of folders -------------------------------------------------------------------------------------


def check(place: Path) -> tuple[int, LockCheck]:
    options = LOCK | {"json": str(place / "check.json")}
    code = cli_lock.check_command(place / "wirecheck.toml", options)
    return code, LockCheck.model_validate_json((place / "check.json").read_text())


def test_nothing_moved(place):
    locked(place)
    code, found = check(place)
    assert (code, [model.moved for model in found.models], found.versions) == (0, [(), ()], ())


def test_a_changed_file_of_a_folder(place, capsys):
    locked(place)
    path = place / "b" / "tokenizer_config.json"
    path.write_text(path.read_text() + "\n")
    code, found = check(place)
    assert code == 3
    assert [(one.file, one.part, one.how) for one in found.models[1].moved] == [
        ("tokenizer_config.json", "tokenizer", "changed")
    ]
    assert "two: ./b moved from sha256:" in " ".join(capsys.readouterr().out.split())


def test_a_model_that_is_gone_is_4(place):
    locked(place)
    shutil.rmtree(place / "b")
    code, found = check(place)
    assert code == 4
    assert "no folder" in found.models[1].why


def test_two_models_of_one_variable_are_refused(place):
    path = place / "wirecheck.toml"
    path.write_text('[models.q-3]\nid = "./a"\n[models.Q_3]\nid = "./b"\n')
    locked(place)
    with pytest.raises(UsageError, match="WIRECHECK_Q_3_PATH"):
        cli_lock.print_env(path)


# --- the job's variables -----------------------------------------------------------------------------------------


def test_variables_can_be_evaluated_by_a_shell(place, capsys):
    locked(place)
    capsys.readouterr()
    assert cli_lock.print_env(place / "wirecheck.toml") == 0
    script = capsys.readouterr().out + 'printf "%s\\n" "$WIRECHECK_ONE_PATH" "$WIRECHECK_TWO_PATH" "$HF_HUB_OFFLINE"'
    done = subprocess.run(
        ["bash", "-euc", script.replace("$HF_HUB_OFFLINE", "${HF_HUB_OFFLINE-unset}")],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.stdout.split() == [str(place / "a"), str(place / "b"), "unset"]
