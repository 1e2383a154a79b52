"""Hub ids from the command line, in a process of its own, against a hub on this machine: findings and exit codes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import warm
from tests.hubserver import COMMIT, Fault, Hub, serving
from wirecheck.demo import demo_folders
from wirecheck.schema import Level, PairResult

FILES = {
    str(path.relative_to(demo_folders()[0])): path.read_bytes()
    for path in demo_folders()[0].rglob("*")
    if path.is_file()
}
WEIGHTS = tuple(name for name in FILES if name.endswith(".safetensors"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub(dict(FILES), frozenset(WEIGHTS))) as running:
        yield running


def wirecheck(hub: Hub, home: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = kept | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "NO_COLOR": "1",
        **extra,
    }
    return warm.wirecheck(words, Path.cwd(), environment)


def test_a_hub_id_is_checked_from_its_headers_and_its_commit_is_named(hub, tmp_path):
    done = wirecheck(hub, tmp_path, "model", "org/name", "--json", "-", "--require", "simulated")
    result = PairResult.model_validate_json(done.stdout)
    assert (done.returncode, result.a.commit, result.a.kind) == (0, COMMIT, "hub")
    assert result.verdict.strength is Level.SIMULATED
    assert result.fact("a", "hidden_size").value == 128
    why = {run.probe: run.reason for run in result.runs if run.kind == "skipped"}
    assert "hf download org/name" in why["embeds-weights"]
    assert not [r for name in WEIGHTS for r in hub.seen(name) if not r[2]], "no shard was downloaded whole"


@pytest.mark.parametrize(
    ("fault", "said", "next_step"),
    [
        (Fault(status=404), "org/name", "check the name"),
        (Fault(status=403, headers={"X-Error-Code": "GatedRepo"}), "gated", "HF_TOKEN"),
        (Fault(status=401, headers={"X-Error-Code": "GatedRepo"}), "gated", "HF_TOKEN"),
        (Fault(status=500), "500", "again"),
    ],
)
def test_a_model_that_cannot_be_had_is_exit_4_with_the_next_step(hub, tmp_path, fault, said, next_step):
    hub.faults["list"] = fault
    done = wirecheck(hub, tmp_path, "model", "org/name", "--depth", "declared")
    error, following = done.stderr.splitlines()[-2:]
    assert (done.returncode, done.stdout) == (4, "")
    assert error.startswith("error: ")
    assert said in error
    assert following.startswith("next: ")
    assert next_step in following
    assert "Traceback" not in done.stderr


def test_offline_without_a_cache_is_exit_4_and_says_what_fetches(hub, tmp_path):
    done = wirecheck(hub, tmp_path, "model", "org/name", "--offline")
    assert done.returncode == 4
    assert "hf download org/name" in done.stderr
    assert not hub.requests


def test_a_token_is_never_shown(hub, tmp_path):
    hub.faults["list"] = Fault(status=403, headers={"X-Error-Code": "GatedRepo"})
    planted = "hf_PLANTEDtokenPLANTEDtoken"
    for words in (("model", "org/name"), ("doctor",)):
        done = wirecheck(hub, tmp_path, *words, HF_TOKEN=planted)
        assert planted not in done.stdout + done.stderr
