"""A hub, or what answers in its place, that means harm: its answers name no file of ours, end, and tell no token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.hubserver import COMMIT, Fault, Hub, serving
from tests.test_hub import FILES, LFS
from wirecheck import snapshot_hub, snapshot_hub_guard, zoo_offline
from wirecheck.errors import CouldNotCheck, HubUnreachable, OfflineNotCached
from wirecheck.snapshot_hub import fetch

TOKEN = "hf_PLANTEDtokenPLANTEDtoken"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    agents = tmp_path / "agents.json"
    agents.write_text('{"standardEnvVars": [], "harnesses": {}}')
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(agents))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("wirecheck.snapshot_hub_calls.time.sleep", lambda _: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()
    with serving(Hub(dict(FILES), LFS)) as running:
        yield running
    huggingface_hub.close_session()


def _fetch(hub: Hub, tmp_path: Path, revision: str | None = None) -> None:
    fetch("org/name", revision, endpoint=hub.url, cache_dir=tmp_path / "deep" / "cache")


def _strays(tmp_path: Path) -> set[str]:
    """What lies beside the repository's own folder, in the cache and around it."""
    cache = tmp_path / "deep" / "cache"
    around = {path.name for path in (*tmp_path.iterdir(), *cache.parent.iterdir(), *cache.iterdir())}
    return around - {"agents.json", "deep", "cache", "models--org--name", ".locks", "CACHEDIR.TAG", "trees"}


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "7"},
        {"size": -1},
        {"size": [1]},
        {"size": True},
        {"blobId": 7},
        {"blobId": "../../x"},
        {"lfs": {"size": "x", "sha256": "a" * 64, "pointerSize": 1}},
        {"lfs": {"size": 1, "sha256": "../../evil", "pointerSize": 1}},
        {"rfilename": 7},
        {"rfilename": "tokenizer\0x"},
    ],
)
def test_a_listing_of_other_kinds_of_values_is_told(hub, tmp_path, changes):
    hub.listed["config.json"] = changes
    with pytest.raises(HubUnreachable, match="could not be read from the hub"):
        _fetch(hub, tmp_path)


@pytest.mark.parametrize(
    "name", ["../tokenizer.json", "/tmp/tokenizer.json", "tokenizer/../../x", "additional_chat_templates/../../x.jinja"]
)
def test_a_listed_name_that_leads_elsewhere_is_not_fetched(hub, tmp_path, name):
    hub.listed["README.md"] = {"rfilename": name}
    _fetch(hub, tmp_path)
    assert not [path for _, path, _ in hub.requests if ".." in path or "/tmp" in path]
    assert not _strays(tmp_path)


@pytest.mark.parametrize("header", ["ETag", "X-Linked-ETag"])
@pytest.mark.parametrize("tag", ['"../../evil"', '"/evil/evil"', "..", '"a\\b"', 'W/"../evil"'])
def test_a_tag_that_leads_elsewhere_names_no_file(hub, tmp_path, header, tag):
    # The client joins the tag to its folder of blobs: an answer could write anywhere.
    hub.faults["config.json"] = Fault(headers={header: tag})
    with pytest.raises(HubUnreachable, match="is no name of a file's bytes"):
        _fetch(hub, tmp_path)
    assert not _strays(tmp_path)


@pytest.mark.parametrize("size", [None, 300], ids=["no size listed", "another size listed"])
def test_a_body_without_end_is_not_written_to_its_end(hub, tmp_path, monkeypatch, size):
    monkeypatch.setattr("wirecheck.snapshot_hub.max_bytes", lambda _: 1000)
    hub.listed["config.json"] = {"size": size}
    hub.faults["config.json"] = Fault(body=b"x" * 50_000_000)
    with pytest.raises(CouldNotCheck):
        _fetch(hub, tmp_path)
    written = [path.stat().st_size for path in (tmp_path / "deep").rglob("*") if path.is_file()]
    assert max(written) < 20_000_000


def test_an_index_of_a_hundred_thousand_files_is_refused(hub, tmp_path):
    hub.files["model.safetensors.index.json"] = json.dumps(
        {"weight_map": {f"t{i}": f"f{i}" for i in range(10**5)}}
    ).encode()
    with pytest.raises(CouldNotCheck, match="names 100000 files"):
        _fetch(hub, tmp_path)


def test_a_revision_names_no_file_of_this_machine(tmp_path):
    revision = str(tmp_path / "mine")
    repository = snapshot_hub.repository_of(
        "org/name", revision, endpoint="http://hub.example", cache_dir=tmp_path / "c"
    )
    snapshot_hub._remember(repository, COMMIT, {})
    assert not (tmp_path / "mine").exists()
    (tmp_path / "mine").write_text(COMMIT)
    with pytest.raises(OfflineNotCached):
        fetch("org/name", revision, offline=True, endpoint="http://hub.example", cache_dir=tmp_path / "c")


def test_the_token_goes_to_the_hub_and_to_no_other(hub, tmp_path):
    _fetch(hub, tmp_path)
    assert {host for host, _ in hub.authorized} == {hub.url.partition("://")[2]}
    assert hub.seen("lfs")  # another origin was asked, too


def test_an_answer_that_repeats_the_token_is_told_without_it(hub, tmp_path):
    hub.faults["list"] = Fault(body=json.dumps(hub.listing() | {"lastModified": TOKEN}).encode())
    with pytest.raises(HubUnreachable) as caught:
        _fetch(hub, tmp_path)
    assert TOKEN not in str(caught.value)
    assert "(the token)" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        (f"Bearer {TOKEN}", "Bearer (the token)"),
        ("http://user:pa@ss@hub.example/x", "http://hub.example/x"),
        ("https://hub.example/a@b", "https://hub.example/a@b"),
    ],
)
def test_what_is_told_holds_no_secret(monkeypatch, text, safe):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert snapshot_hub_guard.told(text) == safe


def test_the_password_of_the_hubs_address_is_in_no_error_of_the_offline_load(monkeypatch):
    error = OSError("We couldn't connect to 'https://me:s3cret@hub.example' to load the files")
    assert zoo_offline._first_line(error) == "OSError: We couldn't connect to 'https://hub.example' to load the files"


def test_no_file_of_a_run_and_nothing_it_prints_holds_a_token(hub, tmp_path):
    """A whole command against a hub that asks for the token, once well and once with a page that repeats it."""
    planted, password = TOKEN, "PLANTEDpassword"
    home, out = tmp_path / "home", tmp_path / "out"
    out.mkdir()
    address = hub.url.replace("://", f"://user:{password}@")
    given = {
        "HF_ENDPOINT": address,
        "HF_TOKEN": planted,
        "HF_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "TMPDIR": str(out),
    }
    reports = [word for name in ("r.md", "r.html", "r.xml", "r.sarif") for word in ("--report", str(out / name))]
    words = [
        sys.executable,
        "-m",
        "wirecheck.cli",
        "model",
        f"org/name@{COMMIT}",
        "--depth",
        "declared",
        "--json",
        str(out / "r.json"),
    ]
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"} | given
    printed = ""
    for fault in (None, Fault(status=500, body=planted.encode(), headers={"X-Error-Message": planted})):
        if fault is not None:
            hub.faults["list"] = fault
        done = subprocess.run(
            [*words, *reports], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        printed += done.stdout + done.stderr
        assert done.returncode in ((0, 1, 3) if fault is None else (4,)), done.stderr
    files = [path for path in (*out.rglob("*"), *home.rglob("*")) if path.is_file()]
    assert {"r.json", "r.md", "r.html", "r.xml", "r.sarif"} <= {path.name for path in files}
    written = b"".join(path.read_bytes() for path in files).decode(errors="replace") + printed
    assert planted not in written
    assert password not in written
