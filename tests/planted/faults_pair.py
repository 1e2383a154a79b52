"""What lies between two models (PAR), memory (MEM), a config nested in another, the hub (HUB) and the machine (ENV)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hubserver import Fault, Hub, serving
from tests.planted.cases import Folder, Plant
from wirecheck.schema import Level, LockedSide, Severity

_TWINS: dict[str, Any] = {"base": "qwen3", "beside": "qwen3", "severity": Severity.NOTE}

_OTHERS: dict[str, Any] = {"base": "qwen3", "against": ("qwen3", "qwen3"), "severity": Severity.NOTE}

_T5 = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "d_model": 128, "vocab_size": 1024}
_NESTED = "a vision model is put around the language model, whose sizes then stand in text_config"


def _command(ask: Callable[[Hub, Path], tuple[str, ...]], fault: Fault | None = None, **extra: str) -> Any:
    """`wirecheck` in a process of its own against a hub on this machine that serves the folder's files."""

    def run(folder: Path, empty: Path) -> tuple[int, str]:
        files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        with serving(Hub(files)) as hub:
            if fault is not None:
                hub.faults["list"] = fault
            kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "WIRECHECK"))}
            told = {"HF_ENDPOINT": hub.url, "HF_HOME": str(empty), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_COLOR": "1"}
            words = [sys.executable, "-m", "wirecheck.cli", *ask(hub, folder)]
            done = subprocess.run(
                words, env=kept | told | {"NO_PROXY": "127.0.0.1"} | extra, capture_output=True, text=True, check=False
            )
        return done.returncode, " ".join(done.stderr.split())

    return run


def _asking(*words: str) -> Callable[[Hub, Path], tuple[str, ...]]:
    return lambda _hub, _folder: ("model", *words, "--depth", "declared")


def _hub(code: str, what: str, said: str, ask: Any, fault: Fault | None = None) -> Plant:
    return Plant(
        base="mistral", code=code, what=what, command=_command(ask, fault), exit=4, said=said, depth=Level.DECLARED
    )


def _wider(m: Folder) -> None:
    m.config(max_position_embeddings=1024)


def _locked(m: Folder) -> dict[str, Any]:
    files = tuple(sorted(p.name for p in m.path.iterdir()))
    return {"locked": (LockedSide(subject="a", commit="sha256:" + "0" * 64, files=files),)}


def _memory(code: str, what: str, severity: str, gpu: str, width: int, *, count: int = 1) -> Plant:
    return Plant(
        base="qwen3", code=code, what=what, severity=Severity(severity), depth=Level.SIMULATED,
        policy={"gpus": [{"name": gpu, "count": count}]}, wire={"latent_width": width},
    )  # fmt: skip


PAIR = (
    Plant(**_TWINS, code="PAR05", what="both sides are one model, in two folders", against=("qwen3", "mistral")),
    Plant(**_OTHERS, beside="mistral", code="PAR04", what="the heads have other dimensions"),
    Plant(**_OTHERS, beside="llama", code="PAR01", what="32 dimensions beside 128"),
    Plant(**_OTHERS, beside="llama", code="PAR02", what="a vocabulary of bytes beside one of pieces"),
    Plant(**_OTHERS, beside="qwen", code="PAR03", what="a token per byte beside a token per piece"),
    _memory("MEM01", "a wire 9,600 wide on one T4", "block", "T4", 9600),
    _memory("MEM01", "a wire 65,536 wide on four H100", "block", "H100-80GB", 65_536, count=4),
    _memory("MEM02", "a wire that a T4 holds by a hair", "warn", "T4", 2976),
    Plant(
        base="llama",
        code="MEM04",
        severity=Severity.WARN,
        what="an encoder-decoder's sizes stand under names that the formula does not read",
        change=lambda m: m.put("config.json", _T5),
    ),
    Plant(base="wrapper", code="CFG06", severity=Severity.NOTE, against=("gemma", None), what=_NESTED),
    _hub("HUB01", "the repository is not there", "check the name", _asking("org/other"), Fault(status=404)),
    _hub("HUB01", "the revision is not there", "revision", _asking("org/name@v9")),
    _hub(
        "HUB02",
        "the repository is gated",
        "gated",
        _asking("org/name"),
        Fault(status=403, headers={"X-Error-Code": "GatedRepo"}),
    ),
    _hub("HUB03", "offline, and the cache is empty", "hf download org/name", _asking("org/name", "--offline")),
    _hub(
        "HUB01",
        "the folder has another name",
        "there is no folder",
        lambda _hub, folder: ("model", f"{folder}-x", "--depth", "declared"),
    ),
    Plant(
        base="mistral",
        code="HUB04",
        severity=Severity.WARN,
        what="a gate on the branch main",
        policy={"fixed_revisions": True},
        ref="org/name@main",
    ),
    Plant(
        base="mistral",
        code="HUB04",
        severity=Severity.WARN,
        what="a gate on no revision at all",
        policy={"fixed_revisions": True},
        ref="org/name",
    ),
    Plant(
        base="mistral",
        code="ENV01",
        what="transformers is not of the version that was locked",
        policy={"versions": (("transformers", "4.0.0"),)},
    ),
    Plant(
        base="mistral",
        code="ENV01",
        what="a locked package is not installed",
        policy={"versions": (("flash-attn-9", "1.0"),)},
    ),
    Plant(
        base="mistral", code="ENV01", what="another Python than was locked", policy={"versions": (("python", "3.8.1"),)}
    ),
    Plant(base="mistral", code="WGT13", what="a lock is of another commit", ask_policy=_locked),
    Plant(
        base="mistral",
        code="WGT13",
        what="a lock knows nothing of a template that is there",
        ask_policy=_locked,
        change=lambda m: m.put("additional_chat_templates/rag.jinja", "{{ messages }}"),
    ),
)
