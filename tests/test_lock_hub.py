"""`wirecheck lock` of the hub's models: what is pinned, what `--locked` refuses, what moved upstream."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path

import pytest

from tests.hubserver import COMMIT, Hub, blob_sha1, serving
from tests.test_hub_faults import FILES, SHARDS, wirecheck
from tests.test_lock import codes
from wirecheck import cli_gate, cli_lock
from wirecheck.lock import part_of
from wirecheck.lock_records import LockCheck


def test_a_hub_that_lists_another_digest_at_the_same_commit(hub, far):
    assert wirecheck(far, hub, ("lock",), {}).returncode == 0
    assert wirecheck(far, hub, ("gate", "--locked"), {}).returncode == 0
    hub.listed[SHARDS[0]] = {"lfs": {"size": len(FILES[SHARDS[0]]), "sha256": "0" * 64, "pointerSize": 130}}
    done = wirecheck(far, hub, ("gate", "--locked"), {})
    assert (done.returncode, "The hub lists" in done.stdout) == (1, True)


def test_a_file_put_into_the_cache_of_a_locked_commit(hub, far):
    assert wirecheck(far, hub, ("fetch",), {}).returncode == 0
    assert wirecheck(far, hub, ("lock",), {}).returncode == 0
    folder = far / "home" / "hub" / "models--org--name" / "snapshots" / COMMIT
    (folder / "adapter_config.json").write_text("{}")
    for more in ((), ("--offline",)):
        done = wirecheck(far, hub, ("gate", "--locked", *more), {})
        assert (done.returncode, "the lock has no such file" in " ".join(done.stdout.split())) == (1, True)


def test_weights_outside_lfs_are_pinned_by_their_git_name(far):
    with serving(Hub(dict(FILES))) as hub:
        assert wirecheck(far, hub, ("lock", "--no-gate"), {}).returncode == 0
        held = {file.name: file for file in cli_lock.read_lock(far / "wirecheck.lock").models[0].files}
        assert held[SHARDS[0]].git_sha1 == blob_sha1(FILES[SHARDS[0]])
        assert wirecheck(far, hub, ("fetch", "--locked"), {}).returncode == 0
        assert wirecheck(far, hub, ("gate", "--locked", "--offline"), {}).returncode == 0
        path = far / "home" / "hub" / "models--org--name" / "snapshots" / COMMIT / SHARDS[0]
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.resolve().write_bytes(data)
        done = wirecheck(far, hub, ("gate", "--locked", "--offline"), {})
        assert (done.returncode, "WGT13" in done.stdout) == (1, True)


@pytest.fixture
def hub():
    with serving(Hub(dict(FILES), frozenset(SHARDS))) as running:
        yield running


@pytest.fixture
def far(tmp_path):
    (tmp_path / "wirecheck.toml").write_text('[models.one]\nid = "org/name"\n[gate]\nrequire = "inspected"\n')
    return tmp_path


def test_a_branch_can_move_and_a_commit_cannot(hub, far):
    done = wirecheck(far, hub, ("gate", "--json", "gate.json"), {})
    found = cli_gate.read_gate_result(far / "gate.json")
    assert (done.returncode, codes(found, "warn") & {("HUB04", "a")}) == (0, {("HUB04", "a")})
    finding = next(f for f in found.rows[0].result.findings if f.code == "HUB04")
    assert COMMIT in finding.claim
    assert "wirecheck lock" in finding.remedy
    assert wirecheck(far, hub, ("lock", "--no-gate"), {}).returncode == 0
    done = wirecheck(far, hub, ("gate", "--locked", "--json", "gate.json"), {})
    found = cli_gate.read_gate_result(far / "gate.json")
    assert done.returncode == 0, done.stderr
    assert ("HUB04", "a") in codes(found, "ok")
    told = [f.claim for f in found.rows[0].result.findings if f.code == "WGT13" and "The hub lists" in f.claim]
    assert len(told) == len(SHARDS), "the weights are not here: what the hub lists is compared"


def test_the_hubs_own_digests_are_locked_and_no_shard_is_downloaded(hub, far):
    assert wirecheck(far, hub, ("lock", "--no-gate"), {}).returncode == 0
    lock = cli_lock.read_lock(far / "wirecheck.lock")
    assert lock.models[0].commit == COMMIT
    held = {file.name: file.sha256 for file in lock.models[0].files}
    assert held == {name: hashlib.sha256(FILES[name]).hexdigest() for name in held}
    assert held.keys() >= set(SHARDS)
    assert not [r for name in SHARDS for r in hub.seen(name) if not r[2]]


LATER = "d00d" * 10


def moved(hub: Hub, **files: bytes | None) -> None:
    """The branch goes on to a commit with these files changed (None: taken out)."""
    hub.history[hub.commit] = dict(hub.files)
    hub.commit = LATER
    for name, content in files.items():
        if content is None:
            del hub.files[name]
        else:
            hub.files[name] = content


def json_of(name: str, **keys) -> bytes:
    return json.dumps(json.loads(FILES[name]) | keys).encode()


def checked(far: Path, hub: Hub) -> tuple[int, LockCheck, str]:
    done = wirecheck(far, hub, ("lock", "--check", "--json", "check.json"), {})
    return done.returncode, LockCheck.model_validate_json((far / "check.json").read_text()), done.stdout


def test_a_branch_that_has_not_moved(hub, far):
    assert wirecheck(far, hub, ("lock", "--no-gate"), {}).returncode == 0
    code, found, out = checked(far, hub)
    assert (code, found.matters, "as locked" in out) == (0, False, True)


FLIPPED = FILES[SHARDS[0]][:-1] + bytes([FILES[SHARDS[0]][-1] ^ 1])


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"config.json": json_of("config.json", rope_theta=7)}, ("config", "changed", "rope_theta", True)),
        ({"config.json": json_of("config.json", _name_or_path="x")}, ("config", "changed", "name_or_path", False)),
        ({"config.json": json_of("config.json") + b"  "}, ("config", "changed", "says the same", False)),
        (
            {"tokenizer_config.json": json_of("tokenizer_config.json", chat_template="{{ x }}")},
            ("template", "changed", "chat_template", True),
        ),
        ({"tokenizer.json": json_of("tokenizer.json", truncation=3)}, ("tokenizer", "changed", "truncation", True)),
        ({SHARDS[0]: FLIPPED}, ("weights", "changed", "other bytes", True)),
        ({"modeling_x.py": b"1"}, ("code", "added", "was not there", True)),
        ({"generation_config.json": None}, ("config", "gone", "no longer there", True)),
    ],
)
def test_what_moved_upstream_and_whether_it_matters(hub, far, files, told):
    part, how, what, matters = told
    assert wirecheck(far, hub, ("lock", "--no-gate"), {}).returncode == 0
    moved(hub, **files)
    code, found, out = checked(far, hub)
    (one,) = found.models[0].moved
    assert (code, one.part, one.how, one.matters) == (3 if matters else 0, part, how, matters)
    assert what in one.what
    assert (found.models[0].locked, found.models[0].now) == (COMMIT, LATER)
    assert one.file in out
    assert wirecheck(far, hub, ("gate", "--locked"), {}).returncode == 0, "what is locked is still what is checked"


def test_a_branch_that_moved_in_nothing_that_is_read(hub, far):
    assert wirecheck(far, hub, ("lock", "--no-gate"), {}).returncode == 0
    moved(hub, **{"README.md": b"# New\n"})
    code, found, out = checked(far, hub)
    assert (code, found.models[0].moved) == (0, ())
    assert "no file that is read has changed" in " ".join(out.split())


def test_parts_of_a_model():
    parts = {
        "config.json": "config",
        "generation_config.json": "config",
        "chat_template.jinja": "template",
        "additional_chat_templates/rag.jinja": "template",
        "tokenizer.json": "tokenizer",
        "special_tokens_map.json": "tokenizer",
        "model.safetensors": "weights",
        "model.safetensors.index.json": "weights",
        "modeling_x.py": "code",
    }
    assert {name: part_of(name) for name in parts} == parts


def test_variables_of_a_hubs_model_need_all_of_it_in_the_cache(hub, far):
    assert wirecheck(far, hub, ("lock", "--no-gate"), {}).returncode == 0
    done = wirecheck(far, hub, ("gate", "--print-env"), {})
    assert (done.returncode, done.stdout) == (4, "")
    assert "next: wirecheck fetch --locked" in done.stderr
    assert wirecheck(far, hub, ("fetch", "--locked"), {}).returncode == 0
    done = wirecheck(far, hub, ("gate", "--print-env"), {})
    told = dict(shlex.split(line)[1].split("=", 1) for line in done.stdout.splitlines())
    assert (done.returncode, told["HF_HUB_OFFLINE"], told["WIRECHECK_ONE_REVISION"]) == (0, "1", COMMIT)
    assert told["WIRECHECK_ONE_MODEL"] == "org/name"
    assert (Path(told["WIRECHECK_ONE_PATH"]) / "config.json").read_bytes() == FILES["config.json"]
