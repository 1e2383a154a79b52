"""`wirecheck fetch`: what comes, what does not, where room is made sure of, what a limit refuses. The hub's bad days
are in test_hub_faults, kills in test_killed."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.hubserver import COMMIT, Fault, Hub, serving
from tests.test_hub_faults import FILES, SHARDS, wirecheck
from wirecheck import deadline
from wirecheck import snapshot_hub_download as module
from wirecheck.errors import CouldNotCheck, OutputNotWritten
from wirecheck.snapshot_hub_download import Wanted, make_room, reserve, verify
from wirecheck.snapshot_hub_repository import Repository
from wirecheck.weight_files import Listed

EXTRA = {"pytorch_model.bin": b"pickle", "original/consolidated.00.pth": b"pickle", "model.gguf": b"GGUF"}


@pytest.fixture
def hub():
    with serving(Hub(FILES | EXTRA, frozenset({*SHARDS, *EXTRA}))) as running:
        yield running


@pytest.fixture
def place(tmp_path):
    write(tmp_path)
    return tmp_path


def write(place: Path, gate: str = "", more: str = "") -> None:
    (place / "wirecheck.toml").write_text(f'[models.one]\nid = "org/name"\n{more}[gate]\n{gate}\n')


def folder(place: Path) -> Path:
    return place / "home" / "hub" / "models--org--name" / "snapshots" / COMMIT


def downloads(hub: Hub) -> list[str]:
    """Files of weights that were asked for to their end."""
    return [path for method, path, asked in hub.requests if "/lfs/" in path and method == "GET" and not asked]


def test_what_is_read_comes_and_nothing_else(hub, place):
    done = wirecheck(place, hub, ("fetch",), {})
    assert done.returncode == 0, done.stderr
    held = {str(path.relative_to(folder(place))) for path in folder(place).rglob("*") if path.is_file()}
    assert set(SHARDS) < held
    assert not held & {*EXTRA, "README.md", ".gitattributes"}
    assert len(downloads(hub)) == len(SHARDS)


def test_a_second_time_nothing_comes(hub, place):
    wirecheck(place, hub, ("fetch",), {})
    hub.requests.clear()
    done = wirecheck(place, hub, ("fetch",), {})
    assert (done.returncode, downloads(hub)) == (0, [])
    assert "nothing was lacking" in done.stdout


def test_a_dry_run_says_what_would_come(hub, place):
    done = wirecheck(place, hub, ("fetch", "--dry-run"), {})
    assert (done.returncode, downloads(hub)) == (0, [])
    size = sum(len(FILES[name]) for name in SHARDS)
    assert f"{len(SHARDS)} of {len(SHARDS)} files to come" in done.stdout
    assert f"{size / 1e6:.1f} MB to come; nothing was downloaded" in done.stdout


@pytest.mark.parametrize(("gigabytes", "code"), [(0.001, 4), (1.0, 0)])
def test_the_files_limit_on_downloads(hub, place, gigabytes, code):
    write(place, f"gigabytes = {gigabytes}")
    done = wirecheck(place, hub, ("fetch",), {})
    assert (done.returncode, bool(downloads(hub))) == (code, code == 0)
    if code:
        assert "1.9 MB are to come, more than the 0.001 GB that the file allows" in done.stderr


def test_a_folder_needs_nothing_and_one_blob_comes_once(hub, place):
    write(place, more='[models.two]\nid = "org/name"\nrevision = "v1"\n[models.three]\nid = "./here"\n')
    (place / "here").mkdir()
    for name, content in FILES.items():
        (place / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "here" / name).write_bytes(content)
    done = wirecheck(place, hub, ("fetch",), {})
    assert done.returncode == 0, done.stderr
    assert "three: on this disk" in done.stdout
    assert len(downloads(hub)) == len(SHARDS)


def test_pickles_are_not_fetched(hub, place):
    for name in [*SHARDS, "model.safetensors.index.json"]:
        del hub.files[name]
    done = wirecheck(place, hub, ("fetch",), {})
    assert (done.returncode, downloads(hub)) == (4, [])
    assert "its weights are pickles" in done.stderr


def test_offline_is_no_time_to_fetch(hub, place):
    wirecheck(place, hub, ("fetch",), {})
    done = wirecheck(place, hub, ("fetch",), {"HF_HUB_OFFLINE": "1"})
    assert (done.returncode, "unset HF_HUB_OFFLINE" in done.stderr) == (4, True)


def test_two_commits_that_share_their_bytes_are_both_there(hub, place):
    hub.history["b" * 40] = dict(hub.files)
    write(place, more=f'[models.two]\nid = "org/name"\nrevision = "{"b" * 40}"\n')
    done = wirecheck(place, hub, ("fetch",), {})
    assert done.returncode == 0, done.stderr
    assert len(downloads(hub)) == len(SHARDS)
    for commit in (COMMIT, "b" * 40):
        for name in SHARDS:
            assert (folder(place).parent / commit / name).read_bytes() == FILES[name]


def test_a_dry_run_and_a_refusal_leave_what_is_there(hub, place):
    wirecheck(place, hub, ("fetch",), {})
    path = folder(place) / SHARDS[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.resolve().write_bytes(data)
    write(place, "gigabytes = 0.0001")
    assert wirecheck(place, hub, ("fetch", "--dry-run"), {}).returncode == 4
    assert wirecheck(place, hub, ("fetch",), {}).returncode == 4
    assert path.read_bytes() == bytes(data)
    write(place)
    assert "1 of 2 files to come" in wirecheck(place, hub, ("fetch", "--dry-run"), {}).stdout
    assert path.read_bytes() == bytes(data)
    assert wirecheck(place, hub, ("fetch",), {}).returncode == 0
    assert path.read_bytes() == FILES[SHARDS[0]]


def test_two_at_once_both_end_well(hub, place):
    hub.faults |= {name: Fault(drip=(100_000, 0.05), whole=True) for name in SHARDS}
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: wirecheck(place, hub, ("fetch",), {}), range(2)))
    assert [done.returncode for done in both] == [0, 0], both[0].stderr + both[1].stderr
    assert len(downloads(hub)) == len(SHARDS), "the second waited for the first"
    for name in SHARDS:
        assert (folder(place) / name).read_bytes() == FILES[name]
    assert not list((place / "home").rglob("*.wirecheck.incomplete"))


def test_a_password_in_the_hubs_address_is_not_printed(hub, place):
    hub.faults["list"] = Fault(status=403)
    address = hub.url.replace("http://", "http://user:SECRETPW@")
    done = wirecheck(place, hub, ("fetch",), {"HF_ENDPOINT": address})
    assert (done.returncode, "SECRETPW" in done.stdout + done.stderr) == (4, False)
    done = wirecheck(place, hub, ("fetch",), {"HF_ENDPOINT": "http://user:SECRETPW@127.0.0.1:9"})
    assert (done.returncode, "SECRETPW" in done.stdout + done.stderr) == (4, False)


def test_what_came_by_xet_lies_in_the_caches_common_store(hub, place):
    """huggingface_hub keeps such bytes once for all repositories, and its blobs are links to them."""
    wirecheck(place, hub, ("fetch",), {})
    store = place / "home" / "hub" / "blobs" / "ab"
    store.mkdir(parents=True)
    for n, name in enumerate((SHARDS[0], "tokenizer.json")):
        blob = (folder(place) / name).resolve()
        blob.rename(store / (f"{n}" * 64))
        blob.symlink_to(os.path.relpath(store / (f"{n}" * 64), blob.parent))
    words = ("model", "org/name", "--offline", "--depth", "inspected", "--require", "inspected", "--json", "r.json")
    done = wirecheck(place, hub, words, {})
    assert done.returncode == 0, done.stdout + done.stderr
    hub.requests.clear()
    assert wirecheck(place, hub, ("fetch",), {}).returncode == 0
    assert downloads(hub) == []
    data = bytearray((store / ("1" * 64)).read_bytes())
    (store / ("1" * 64)).write_bytes(data + b" ")
    assert "damaged" in wirecheck(place, hub, words, {}).stderr


# --- room --------------------------------------------------------------------------------------------------------


def wanted(tmp_path: Path, size: int = 1000) -> Wanted:
    repository = Repository("org/name", COMMIT, "http://127.0.0.1:9", tmp_path / "hub")
    return Wanted(repository, COMMIT, Listed("model.safetensors", size, "0" * 64))


def test_room_is_looked_for_before_a_byte_comes(tmp_path):
    with pytest.raises(OutputNotWritten, match="are free"):
        make_room([wanted(tmp_path, 10**18)])
    assert not wanted(tmp_path).part.exists()


def test_room_that_is_there(tmp_path):
    make_room([wanted(tmp_path)])
    assert wanted(tmp_path).come == 0
    make_room([])


@pytest.mark.parametrize(("number", "words"), [(errno.EDQUOT, "the quota"), (errno.ENOSPC, "the disk")])
def test_a_refusal_gives_back_what_was_reserved(tmp_path, monkeypatch, number, words):
    first, second = wanted(tmp_path), wanted(tmp_path, 2000)
    second = Wanted(second.repository, COMMIT, Listed("b", 2000, "1" * 64))
    first.part.parent.mkdir(parents=True)
    first.part.write_bytes(b"abc")
    before = module.reserve

    def refuse(path: Path, size: int) -> None:
        before(path, size)
        if path == second.part:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "reserve", refuse)
    with pytest.raises(OutputNotWritten, match=words):
        make_room([first, second])
    assert first.part.read_bytes() == b"abc", "what had come is kept"
    assert not second.part.exists()
    assert first.part.stat().st_blocks * 512 < 100_000


def test_what_is_reserved_already_is_not_asked_for_again(tmp_path, monkeypatch):
    one = wanted(tmp_path, 8_000_000)
    make_room([one])
    if one.part.stat().st_blocks == 0:
        pytest.skip("this file system reserves nothing")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=module._ROOM_LEFT + 1000))
    make_room([one])
    assert one.held == 8_000_000


def test_no_inodes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_inodes", lambda _: 2)
    with pytest.raises(OutputNotWritten, match="inodes"):
        make_room([wanted(tmp_path)])


@pytest.mark.skipif(sys.platform != "linux", reason="fallocate is Linux's")
def test_blocks_are_reserved_and_the_file_is_not_longer(tmp_path):
    path, size = tmp_path / "x", 8_000_000
    reserve(path, size)
    held = path.stat()
    if held.st_blocks == 0:
        pytest.skip("this file system reserves nothing")
    assert (held.st_size, held.st_blocks * 512 >= size) == (0, True)


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (Listed("a", 1, None), "without size or digest"),
        (Listed("a", None, "0" * 64), "without size or digest"),
        (Listed("a", 1, "../../../" + "0" * 55), "without size or digest"),
        (Listed("../../../a", 1, "0" * 64), "leads out of"),
    ],
)
def test_what_a_hostile_hub_lists_is_refused(tmp_path, monkeypatch, listed, words):
    monkeypatch.setattr(module, "repository_of", lambda *_: wanted(tmp_path).repository)
    with pytest.raises(CouldNotCheck, match=words):
        module.wanted("org/name", COMMIT, [listed])


# --- digests -----------------------------------------------------------------------------------------------------

DATA = b"some bytes" * 1000


@pytest.mark.parametrize(
    "digest",
    [hashlib.sha256(DATA).hexdigest(), hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()],
    ids=["sha256", "git"],
)
def test_verify(tmp_path, digest):
    path = tmp_path / "x"
    assert not verify(path, Listed("x", len(DATA), digest))
    path.write_bytes(DATA)
    assert verify(path, Listed("x", len(DATA), digest))
    assert not verify(path, Listed("x", len(DATA) + 1, digest))
    path.write_bytes(DATA[:-1] + b"!")
    assert not verify(path, Listed("x", len(DATA), digest))


# --- the deadline ------------------------------------------------------------------------------------------------


def test_a_deadline_reaches_threads_that_begin_in_it():
    from wirecheck.snapshot_hub_calls import start

    assert deadline.left_s() is None
    with deadline.within(100):
        assert 0 < start(deadline.left_s).result() <= 100
        with deadline.within(None):
            assert deadline.left_s() is not None
        with deadline.within(-1):
            assert deadline.left_s() == 0
    assert deadline.left_s() is None
