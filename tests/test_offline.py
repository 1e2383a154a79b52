"""HUB05: everything loaded once more in a process whose sockets are refused, and what is said of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.benches import model_bench, run
from tests.hubserver import COMMIT, Hub, serving
from tests.test_hub_faults import FILES, SHARDS, wirecheck
from wirecheck import zoo_offline
from wirecheck.demo import demo_folders
from wirecheck.errors import CannotRun
from wirecheck.probes import offline
from wirecheck.schema import Level, PairResult, Policy
from wirecheck.snapshot import parse_ref, take
from wirecheck.zoo_offline import Reload

TRUSTED = Policy(trust_remote_code=True)
CONFIG = """
import os
import socket
from transformers import LlamaConfig

class ChattyConfig(LlamaConfig):
    model_type = "chatty"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if {condition}:
            {ask}
"""
MODEL = """
from transformers import LlamaForCausalLM
from .configuration_chatty import ChattyConfig

class ChattyForCausalLM(LlamaForCausalLM):
    config_class = ChattyConfig
"""
ASK = 'socket.create_connection(("models.invalid", 443), timeout=1)'
PATIENT = f"try:\n                {ASK}\n            except OSError:\n                pass"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_folders()[0], tmp_path / "model"))


def chatty(folder: Path, *, condition: str = "True", ask: str = PATIENT) -> Path:
    """A model whose own code asks the network while it is loaded."""
    (folder / "configuration_chatty.py").write_text(CONFIG.format(condition=condition, ask=ask))
    (folder / "modeling_chatty.py").write_text(MODEL)
    held = json.loads((folder / "config.json").read_text())
    held |= {
        "model_type": "chatty",
        "architectures": ["ChattyForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_chatty.ChattyConfig",
            "AutoModelForCausalLM": "modeling_chatty.ChattyForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(held))
    return folder


def looked(folder: Path, policy: Policy = TRUSTED):
    return run(offline.OFFLINE, model_bench(folder, policy=policy))


def test_a_sound_folder_asks_nobody(folder):
    found = looked(folder, Policy())
    assert found.severity("HUB05") == "ok"
    (finding,) = found.of("HUB05")
    assert {evidence.level for evidence in finding.evidence} == {Level.EXECUTED}
    assert "AutoConfig, AutoTokenizer, AutoModelForCausalLM load" in finding.claim


def test_code_that_asks_all_the_same_is_warned_of_with_the_host(folder):
    found = looked(chatty(folder))
    assert found.severity("HUB05") == "warn"
    assert "models.invalid" in found.claim("HUB05")
    assert "also with HF_HUB_OFFLINE=1" in found.claim("HUB05")


def test_what_the_variable_keeps_quiet_is_said_to_be_kept_quiet_by_it(folder):
    found = looked(chatty(folder, condition='os.environ.get("HF_HUB_OFFLINE") != "1"'))
    assert found.severity("HUB05") == "warn"
    assert "with HF_HUB_OFFLINE=1 it asks nobody" in found.claim("HUB05")
    assert "HF_HUB_OFFLINE=1" in found.of("HUB05")[0].remedy


def test_what_does_not_load_without_a_network_blocks(folder):
    found = looked(chatty(folder, ask=ASK))
    assert found.severity("HUB05") == "block"
    assert "does not load where sockets are refused" in found.claim("HUB05")


def test_what_does_not_load_anyway_is_not_the_networks_fault(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CannotRun, match="with a network or without"):
        looked(folder, Policy())


def test_weights_that_are_not_there_are_not_proven(folder):
    next(folder.glob("*.safetensors")).unlink()
    with pytest.raises(CannotRun):
        looked(folder, Policy())


def test_a_child_without_a_word_is_no_answer(folder, monkeypatch):
    monkeypatch.setattr(zoo_offline.sys, "executable", "/bin/false")
    with pytest.raises(CannotRun, match="no result"):
        looked(folder, Policy())


def test_nothing_of_the_working_folder_is_imported(folder, monkeypatch):
    """A model's folder may hold a file that is named like a module."""
    monkeypatch.chdir(folder)
    for name in ("ctypes", "json", "transformers"):
        (folder / f"{name}.py").write_text("from pathlib import Path; Path('stolen').touch()")
    zoo_offline.reload(take(parse_ref(str(folder))), dtype="float32", trust_remote_code=False, hub_offline=True)
    assert not (folder / "stolen").exists()


def test_the_hook_refuses_and_writes_down():
    asked: list[str] = []
    hook = zoo_offline._hook(asked)
    for event, arguments in (
        ("socket.connect", (None, ("10.0.0.1", 80))),
        ("socket.getaddrinfo", ("hub.invalid", 443, 0, 0, 0)),
        ("socket.gethostbyname", (b"old.invalid",)),
        ("socket.sendto", (None, ("::1", 53, 0, 0))),
    ):
        with pytest.raises(OSError, match="refuses sockets"):
            hook(event, arguments)
    hook("socket.connect", (None, "/run/a.sock"))
    hook("open", ("x", "r", 0))
    assert asked == ["10.0.0.1:80", "hub.invalid", "old.invalid", "::1:53"]


@pytest.mark.parametrize("fence", ["audit", "namespace"])
def test_the_evidence_names_the_fence(fence):
    (evidence,) = offline._seen(Reload((), (), fence), False)
    assert ("namespace" in evidence.source) == (fence == "namespace")


def test_a_hubs_model_is_loaded_by_its_id_from_the_cache(tmp_path):
    """As the job will, under the variables that `gate --print-env` gives."""
    (tmp_path / "wirecheck.toml").write_text('[models.one]\nid = "org/name"\n')
    with serving(Hub(dict(FILES), frozenset(SHARDS))) as hub:
        assert wirecheck(tmp_path, hub, ("fetch",), {}).returncode == 0
        words = ("model", f"org/name@{COMMIT}", "--prove-offline", "--offline", "--json", "r.json")
        done = wirecheck(tmp_path, hub, words, {})
    assert done.returncode == 0, done.stderr
    result = PairResult.model_validate_json((tmp_path / "r.json").read_text())
    (finding,) = [one for one in result.findings if one.code == "HUB05"]
    assert (finding.severity, "with HF_HUB_OFFLINE=1" in finding.claim) == ("ok", True)
    assert result.policy.required is Level.EXECUTED


def test_it_is_asked_only_where_it_is_asked_for():
    assert not offline.OFFLINE.asked(None, Policy())
    asked = Policy().also_offline
    assert (asked.prove_offline, asked.required, asked.depth) == (True, Level.EXECUTED, Level.EXECUTED)
    assert Policy(required=Level.MEASURED, depth=Level.MEASURED).also_offline.required is Level.MEASURED
