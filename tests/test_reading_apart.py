"""Folders and GGUF files are read in a child: what comes back is what was read, and its death is a broken file."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.ggufs import write_gguf
from wirecheck import snapshot_apart, snapshot_folder
from wirecheck.demo import demo_folders
from wirecheck.errors import ModelNotFound
from wirecheck.gguf_file import read_gguf
from wirecheck.snapshot import parse_ref, take
from wirecheck.snapshot_apart import folder_apart, gguf_apart
from wirecheck.snapshot_folder import read_folder

linux = pytest.mark.skipif(sys.platform != "linux", reason="the bounds are Linux's")


@pytest.mark.parametrize("side", [0, 1])
def test_a_folder_comes_back_as_it_was_read(side):
    folder = demo_folders()[side]
    assert folder_apart(folder) == read_folder(folder)


def test_names_that_are_no_unicode_come_back(llama):
    Path(os.fsdecode(os.fsencode(llama) + b"/\xff.json")).write_text("{}")
    assert folder_apart(llama) == read_folder(llama)


def test_errors_come_back_as_they_were_raised(tmp_path):
    with pytest.raises(ModelNotFound, match="holds no file of a model") as told:
        folder_apart(tmp_path)
    assert told.value.next_step


def broken(monkeypatch, act) -> None:
    def read(*_: object, **__: object) -> object:
        return act()

    monkeypatch.setattr(snapshot_apart, "read_folder", read)


DEATHS = {
    "abort": (os.abort, "gave up (SIGABRT)"),
    "memory": (lambda: bytearray(1 << 40), "more than 4 GiB of memory"),
    "bug": (lambda: {}["x"], "reading it failed: KeyError: 'x'"),
    "panic": (lambda: sys.exit(3), "reading it failed: SystemExit: 3"),
}


@linux
@pytest.mark.parametrize("how", sorted(DEATHS))
def test_a_death_is_told_as_weights_that_cannot_be_read(llama, monkeypatch, how):
    act, words = DEATHS[how]
    broken(monkeypatch, act)
    found = take(parse_ref(str(llama)))
    assert [file.problem for file in found.weights] == ["malformed"]
    assert words in found.weights[0].detail
    assert (found.has("config.json"), found.commit[:7]) == (True, "sha256:")


@linux
def test_the_gate_says_so(run, llama, monkeypatch):
    broken(monkeypatch, os.abort)
    code, out, _ = run("model", llama, "--depth", "inspected", "--require", "inspected", "--json", "-")
    found = [f for one in json.loads(out)["runs"] for f in one["findings"] if f["severity"] == "block"]
    assert (code, [f["code"] for f in found]) == (1, ["WGT04"])
    assert "ended the process" in found[0]["claim"] + str(found[0]["evidence"])


@linux
def test_the_reader_has_no_network_and_writes_nothing(llama, monkeypatch):
    import socket

    def ask() -> object:
        return socket.create_connection(("127.0.0.1", 9))

    broken(monkeypatch, ask)
    with pytest.raises(ModelNotFound, match="Permission denied"):
        take(parse_ref(str(llama)))


def test_a_gguf_file_comes_back_as_it_was_read(tmp_path):
    path = write_gguf(tmp_path / "m.gguf")
    commit, weights, config, origins = gguf_apart(path)
    found = read_gguf(path)
    assert (commit, weights, config, origins) == (found.commit, found.weights, found.config, dict(found.origins))


@linux
def test_a_gguf_file_that_ends_its_reader_is_told(tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "m.gguf")
    monkeypatch.setattr("wirecheck.gguf_file.read_gguf", lambda _: os.abort())
    found = take(parse_ref(str(path)))
    assert (found.weights[0].problem, found.weights[0].format) == ("malformed", "gguf")


def test_without_fork_it_is_read_here(llama, monkeypatch):
    monkeypatch.delattr(os, "fork")
    assert folder_apart(llama) == snapshot_folder.read_folder(llama)
    shutil.rmtree(llama)
