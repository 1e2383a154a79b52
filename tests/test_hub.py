"""Snapshots from a hub, on good and bad days, against a real HTTP server and the real client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.hubserver import COMMIT, Fault, Hub, blob_sha1, serving
from tests.shards import CONFIG, POINTER, TINY, raw, shard, table
from wirecheck.errors import (
    CouldNotCheck,
    HubUnreachable,
    ModelGated,
    ModelNotFound,
    OfflineNotCached,
)
from wirecheck.snapshot import WeightFile, parse_ref, take
from wirecheck.snapshot_hub import HubContent, fetch

SHARDS = {
    "model-1-of-2.safetensors": {"model.embed_tokens.weight": ("BF16", (16, 4))},
    "model-2-of-2.safetensors": {"lm_head.weight": ("BF16", (16, 4))},
}
INDEX = json.dumps({"weight_map": {t: name for name, shapes in SHARDS.items() for t in shapes}}).encode()
FILES = {
    ".gitattributes": b"*.safetensors filter=lfs\n",
    "README.md": b"# A model\n",
    "config.json": json.dumps(CONFIG).encode(),
    "tokenizer.json": b'{"version": "1.0"}' + b" " * 5000,
    "tokenizer_config.json": b'{"eos_token": "</s>"}',
    "additional_chat_templates/rag.jinja": b"{{ messages }}",
    "model.safetensors.index.json": INDEX,
    **{name: shard(shapes) for name, shapes in SHARDS.items()},
}
LFS = frozenset({"tokenizer.json", *SHARDS})


@pytest.fixture(autouse=True)
def _no_other_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No request leaves this machine, and the client's and our pauses take no time."""
    agents = tmp_path / "agents.json"
    agents.write_text('{"standardEnvVars": [], "harnesses": {}}')
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(agents))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    slept = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: slept(min(seconds, 0.01)))
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub(dict(FILES), LFS)) as running:
        yield running


def _fetch(hub: Hub, tmp_path: Path, revision: str | None = None, *, offline: bool = False) -> HubContent:
    return fetch("org/name", revision, offline=offline, endpoint=hub.url, cache_dir=tmp_path / "cache")


def _weights(content: HubContent) -> dict[str, WeightFile]:
    return {file.name: file for file in content.weights}


def test_metadata_is_downloaded_and_headers_are_read_by_range(hub, tmp_path):
    content = _fetch(hub, tmp_path)
    assert content.commit == COMMIT
    assert content.files == tuple(sorted(FILES))
    assert content.folder == tmp_path / "cache" / "models--org--name" / "snapshots" / COMMIT
    for name in ("config.json", "tokenizer.json", "additional_chat_templates/rag.jinja"):
        assert (content.folder / name).read_bytes() == FILES[name]
    assert not (content.folder / "README.md").exists()
    for name, shapes in SHARDS.items():
        file = _weights(content)[name]
        assert (file.path, file.size_bytes, file.problem) == (None, len(FILES[name]), None)
        assert {t.name: (t.dtype, t.shape) for t in file.tensors} == shapes
        assert not (content.folder / name).exists()
    assert all(asked for _, path, asked in hub.seen(".safetensors") if path.endswith(".safetensors"))


def test_a_second_time_only_the_list_and_the_headers_are_asked_for(hub, tmp_path):
    first = _fetch(hub, tmp_path)
    hub.requests.clear()
    assert _fetch(hub, tmp_path) == first
    assert {path.rpartition("/")[2] for _, path, _ in hub.requests} == {"name", *SHARDS}


def test_take_by_environment_in_a_fresh_process(hub, tmp_path):
    code = (
        "from wirecheck.snapshot import parse_ref, take\n"
        "s = take(parse_ref('org/name@v1'))\n"
        "print(s.ref.kind, s.commit, s.read_json('config.json')['vocab_size'], s.source('config.json', 'k'))\n"
        "print(sorted(s.tensors), s.weights_on_disk, s.has('tokenizer.json'))\n"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [
        f"hub {COMMIT} 16 config.json@{COMMIT[:12]}#k",
        "['lm_head.weight', 'model.embed_tokens.weight'] False True",
    ]
    hub.requests.clear()
    env["HF_HUB_OFFLINE"] = "1"
    again = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert "OfflineNotCached: offline, and the cache lacks model-1-of-2.safetensors" in again.stderr
    assert hub.requests == []


def test_a_shard_in_the_cache_is_read_there(hub, tmp_path):
    folder = _fetch(hub, tmp_path).folder
    (folder / "model-1-of-2.safetensors").write_bytes(FILES["model-1-of-2.safetensors"])
    hub.requests.clear()
    files = _weights(_fetch(hub, tmp_path))
    assert files["model-1-of-2.safetensors"].path == folder / "model-1-of-2.safetensors"
    assert files["model-2-of-2.safetensors"].path is None
    assert not hub.seen("model-1-of-2")


def _long_header() -> bytes:
    shapes = {f"model.layers.{n}.a_rather_long_name.weight": ("F32", (2, 2)) for n in range(1500)}
    return shard(shapes)


@pytest.mark.parametrize("ignore_range", [False, True])
def test_a_header_longer_than_the_first_request(hub, tmp_path, ignore_range):
    hub.files["model-1-of-2.safetensors"] = _long_header()
    hub.faults["model-1-of-2.safetensors"] = Fault(ignore_range=ignore_range)
    assert len(_weights(_fetch(hub, tmp_path))["model-1-of-2.safetensors"].tensors) == 1500
    asked = [asked for _, path, asked in hub.seen("model-1-of-2") if path.startswith("/org")]
    assert len(asked) == 2


@pytest.mark.parametrize("around", [-1, 0, 1])
def test_a_header_that_ends_around_the_first_request(hub, tmp_path, around):
    header, size = table(TINY)
    text = json.dumps(header).encode()
    padded = raw(text + b" " * (64 * 1024 + around - 8 - len(text)), b"\1" * size)
    hub.files["model-1-of-2.safetensors"] = padded
    file = _weights(_fetch(hub, tmp_path))["model-1-of-2.safetensors"]
    assert {t.name for t in file.tensors} == set(TINY)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (POINTER, "lfs-pointer"),
        (shard(TINY)[:-1], "truncated"),
        (b"<!DOCTYPE html>" * 9, "malformed"),
        (b"", "truncated"),
    ],
    ids=["pointer", "truncated", "html", "empty"],
)
def test_what_is_wrong_with_a_remote_shard(hub, tmp_path, content, problem):
    hub.files["model-1-of-2.safetensors"] = content
    assert _weights(_fetch(hub, tmp_path))["model-1-of-2.safetensors"].problem == problem


def test_a_shard_the_hub_does_not_list_is_missing(hub, tmp_path):
    del hub.files["model-2-of-2.safetensors"]
    assert _weights(_fetch(hub, tmp_path))["model-2-of-2.safetensors"].problem == "missing"


def test_pickles_are_listed_and_not_downloaded(hub, tmp_path):
    hub.files = {"config.json": FILES["config.json"], "pytorch_model.bin": b"\x80\x04."}
    [file] = _fetch(hub, tmp_path).weights
    assert (file.format, file.path, file.size_bytes) == ("pickle", None, 3)
    assert not hub.seen("pytorch_model.bin")


# --- bad days


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json", "config.json", "model-1-of-2.safetensors"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}), ModelNotFound),
        (Fault(404), ModelNotFound),
        (Fault(500), HubUnreachable),
        (Fault(429), HubUnreachable),
        (Fault(403, {"X-Error-Code": "GatedRepo"}), ModelGated),
        (Fault(403), ModelGated),
        (Fault(401, {"X-Error-Message": "Invalid credentials in Authorization header"}), ModelGated),
    ],
    ids=["404-entry", "404", "500", "429", "403-gated", "403", "401"],
)
def test_a_listed_file_that_is_not_served_is_an_error_never_an_absence(hub, tmp_path, name, fault, error):
    hub.faults[name] = Fault(fault.status, fault.headers)
    with pytest.raises(error) as caught:
        _fetch(hub, tmp_path)
    assert name in caught.value.message
    assert "org/name" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.next_step
    assert not list((tmp_path / "cache").rglob(f".no_exist/*/{name}"))


def test_gated_names_the_page_and_the_variable(hub, tmp_path):
    hub.faults["config.json"] = Fault(403, {"X-Error-Code": "GatedRepo"})
    with pytest.raises(ModelGated) as caught:
        _fetch(hub, tmp_path)
    assert f"{hub.url}/org/name" in caught.value.next_step
    assert "HF_TOKEN" in caught.value.next_step


@pytest.mark.parametrize("name", ["list", "config.json", "model-1-of-2.safetensors"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_outlived(hub, tmp_path, name, status):
    hub.faults[name] = Fault(status, {"Retry-After": "1"}, times=2)
    assert _fetch(hub, tmp_path).commit == COMMIT


@pytest.mark.parametrize("name", ["list", "model-1-of-2.safetensors"])
def test_a_lasting_failure_is_asked_three_times(hub, tmp_path, name):
    hub.faults[name] = Fault(503)
    with pytest.raises(HubUnreachable, match="503"):
        _fetch(hub, tmp_path)
    asked = hub.seen("/api/models") if name == "list" else hub.seen(f"/org/name/resolve/{COMMIT}/{name}")
    assert len(asked) == 3


@pytest.mark.parametrize("name", ["model-1-of-2.safetensors", "tokenizer.json", "config.json"])
def test_a_body_cut_short_is_asked_for_again(hub, tmp_path, name):
    hub.faults[name] = Fault(cut=10, times=1)
    content = _fetch(hub, tmp_path)
    assert _weights(content)["model-1-of-2.safetensors"].problem is None
    assert (content.folder / "tokenizer.json").read_bytes() == FILES["tokenizer.json"]


def test_a_header_that_is_always_cut_short_is_no_truncated_shard(hub, tmp_path):
    hub.faults["model-1-of-2.safetensors"] = Fault(body=FILES["model-1-of-2.safetensors"][:20])
    with pytest.raises(HubUnreachable, match="model-1-of-2"):
        _fetch(hub, tmp_path)


def test_a_shard_served_in_another_size_than_listed_is_refused(hub, tmp_path):
    hub.listed["model-1-of-2.safetensors"] = {"lfs": {"size": 99, "sha256": "0" * 64, "pointerSize": 1}}
    with pytest.raises(HubUnreachable, match="listed with 99"):
        _fetch(hub, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_flipped_bytes_are_caught_and_not_left_in_the_cache(hub, tmp_path, name):
    altered = FILES[name].replace(b'"', b"'", 1)
    hub.faults[name] = Fault(body=altered)
    with pytest.raises(HubUnreachable, match="not those the hub lists"):
        _fetch(hub, tmp_path)
    assert altered not in [p.read_bytes() for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_bytes_flipped_once_are_fetched_again(hub, tmp_path):
    hub.faults["config.json"] = Fault(body=FILES["config.json"].replace(b"16", b"99"), times=1)
    hub.faults["config.json"].times = 2  # one HEAD, one GET
    content = _fetch(hub, tmp_path)
    assert (content.folder / "config.json").read_bytes() == FILES["config.json"]


def test_a_copy_damaged_in_the_cache_is_replaced(hub, tmp_path):
    path = _fetch(hub, tmp_path).folder / "config.json"
    path.resolve().write_bytes(FILES["config.json"].replace(b"16", b"99"))
    _fetch(hub, tmp_path)
    assert path.read_bytes() == FILES["config.json"]


def test_a_metadata_file_past_its_bound_is_not_downloaded(hub, tmp_path):
    hub.listed["config.json"] = {"size": 10**9}
    with pytest.raises(CouldNotCheck, match=r"config\.json has 1000000000 bytes"):
        _fetch(hub, tmp_path)
    assert not hub.seen("config.json")[1:]


def test_no_such_repository_revision_or_id(hub, tmp_path):
    for name, revision in (("org/other", None), ("org/name", "no-such-branch"), ("bad--name/x", None)):
        with pytest.raises(ModelNotFound) as caught:
            fetch(name, revision, endpoint=hub.url, cache_dir=tmp_path / "cache")
        assert caught.value.next_step
        assert name in caught.value.message


def test_a_repository_without_a_model(hub, tmp_path):
    hub.files = {"README.md": b"x"}
    with pytest.raises(ModelNotFound, match="holds no file of a model"):
        _fetch(hub, tmp_path)


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b"[]", b'{"id": "org/name"}', b'{"sha": 7, "siblings": 3}'])
def test_a_portal_that_answers_for_the_hub(hub, tmp_path, body):
    hub.faults["list"] = Fault(body=body)
    with pytest.raises(HubUnreachable):
        _fetch(hub, tmp_path)


def test_nobody_listens(hub, tmp_path):
    with pytest.raises(HubUnreachable, match="could not be read"):
        fetch("org/name", endpoint="http://127.0.0.1:9", cache_dir=tmp_path)


# --- offline


def _cached(hub: Hub, tmp_path: Path) -> Path:
    """Everything in the cache, as `hf download` leaves it."""
    folder = _fetch(hub, tmp_path).folder
    for name in SHARDS:
        (folder / name).write_bytes(FILES[name])
    hub.requests.clear()
    return folder


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_offline_reads_the_cache_and_asks_nobody(hub, tmp_path, revision):
    folder = _cached(hub, tmp_path)
    content = _fetch(hub, tmp_path, revision, offline=True)
    assert (content.commit, content.folder) == (COMMIT, folder)
    assert all(file.path == folder / file.name and file.problem is None for file in content.weights)
    assert hub.requests == []


def test_offline_by_the_environment(hub, tmp_path, monkeypatch):
    _cached(hub, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert _fetch(hub, tmp_path).commit == COMMIT
    assert hub.requests == []


@pytest.mark.parametrize("lost", ["config.json", "tokenizer_config.json", "model-2-of-2.safetensors"])
def test_offline_names_what_the_cache_lacks_and_what_fetches_it(hub, tmp_path, lost):
    (_cached(hub, tmp_path) / lost).unlink()
    with pytest.raises(OfflineNotCached, match=lost) as caught:
        _fetch(hub, tmp_path, offline=True)
    assert caught.value.next_step == "hf download org/name"
    assert hub.requests == []


def test_offline_without_any_weights(hub, tmp_path):
    folder = _cached(hub, tmp_path)
    for name in ("model.safetensors.index.json", *SHARDS):
        (folder / name).unlink()
    with pytest.raises(OfflineNotCached, match=r"lacks model\.safetensors of"):
        _fetch(hub, tmp_path, offline=True)


def test_offline_never_seen(hub, tmp_path):
    for revision in (None, "v1", "0" * 40):
        with pytest.raises(OfflineNotCached, match="not in the cache") as caught:
            _fetch(hub, tmp_path, revision, offline=True)
        assert caught.value.next_step.startswith("hf download org/name")
    assert hub.requests == []


def test_offline_a_damaged_copy_is_caught(hub, tmp_path):
    folder = _cached(hub, tmp_path)
    (folder / "config.json").resolve().write_bytes(b"{}")
    with pytest.raises(HubUnreachable, match=r"config\.json is damaged"):
        _fetch(hub, tmp_path, offline=True)


def test_offline_a_whole_download_lists_what_must_be_there(hub, tmp_path):
    """After `hf download` the client knows every file of the commit: one that was lost is named."""
    folder = _cached(hub, tmp_path)
    entries = {name: {"size": len(c), "blob_id": blob_sha1(c), "etag": blob_sha1(c)} for name, c in FILES.items()}
    tree = [huggingface_hub.hf_api.RepoFile(path=n, size=e["size"], oid=e["blob_id"]) for n, e in entries.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub, "get_cached_repo_tree", lambda *args, **kwargs: tree)
        assert _fetch(hub, tmp_path, offline=True).files == tuple(sorted(FILES))
        (folder / "additional_chat_templates" / "rag.jinja").unlink()
        with pytest.raises(OfflineNotCached, match=r"rag\.jinja"):
            _fetch(hub, tmp_path, offline=True)


def test_take_offline_keeps_the_ref(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OfflineNotCached) as caught:
        take(parse_ref("org/name@v2"), offline=True)
    assert caught.value.next_step == "hf download org/name --revision v2"
    assert caught.value.exit_code == 4
