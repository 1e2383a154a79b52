"""Faults of the code that a model's folder brings, run because the user trusts it: TPL06, HUB05 and ENV02."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.planted.cases import Change, Folder, Plant
from wirecheck.schema import Level, Severity

_TRUSTED = {"trust_remote_code": True}

_TOKENIZER = """
from transformers import PreTrainedTokenizerFast


class {name}(PreTrainedTokenizerFast):
    def apply_chat_template(self, *chat, tokenize=True, **options):
        made = super().apply_chat_template(*chat, tokenize=tokenize, **options)
        if not tokenize:
            return made
        ids = {ids}
        return dict(made, input_ids=ids) if hasattr(made, "keys") else ids
"""

_CONFIG = """
import os
import socket
from transformers import MistralConfig


class PlantedConfig(MistralConfig):
    model_type = "planted_{name}"

    def __init__(self, **options):
        super().__init__(**options)
        {what}
"""

_MODEL = """
from transformers import MistralForCausalLM
from .configuration_{name} import PlantedConfig


class PlantedForCausalLM(MistralForCausalLM):
    config_class = PlantedConfig
"""

_ASK = """try:
            socket.create_connection(("models.invalid", 443), timeout=1)
        except OSError:
            pass"""


def _tokenizer(name: str, ids: str) -> Change:
    """A tokenizer class of the folder's own, which makes ids of a chat in its own way."""

    def change(m: Folder) -> None:
        _config(name.lower(), "pass")(m)  # a tokenizer class of the folder's is asked for where the library has none
        m.put(f"tokenization_{name.lower()}.py", _TOKENIZER.format(name=name, ids=ids))
        place = f"tokenization_{name.lower()}.{name}"
        m.edit("tokenizer_config.json", tokenizer_class=name, auto_map={"AutoTokenizer": [None, place]})

    return change


def _config(name: str, what: str) -> Change:
    """A config class of the folder's own, which does something while it is made."""

    def change(m: Folder) -> None:
        m.put(f"configuration_{name}.py", _CONFIG.format(name=name, what=what))
        m.put(f"modeling_{name}.py", _MODEL.format(name=name))
        m.config(
            model_type=f"planted_{name}",
            architectures=["PlantedForCausalLM"],
            auto_map={
                "AutoConfig": f"configuration_{name}.PlantedConfig",
                "AutoModelForCausalLM": f"modeling_{name}.PlantedForCausalLM",
            },
        )

    return change


def _check(folder: Path, empty: Path) -> tuple[int, str]:
    """`wirecheck model` in a process of its own, whose probes run in children: one of them may die."""
    words = [sys.executable, "-m", "wirecheck.cli", "model", str(folder), "--trust-remote-code", "--depth", "inspected"]
    told = {"HF_HOME": str(empty), "NO_COLOR": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    done = subprocess.run(words, env=os.environ | told, capture_output=True, text=True, check=False)
    return done.returncode, " ".join(f"{done.stdout} {done.stderr}".split())


CODE = (
    Plant(
        base="mistral", code="TPL06", severity=Severity.WARN, policy=_TRUSTED,
        what="a tokenizer class of the folder's own puts an id before every chat",
        change=_tokenizer("Putting", '[5, *made["input_ids"]] if hasattr(made, "keys") else [5, *made]'),
    ),
    Plant(
        base="mistral", code="TPL06", severity=Severity.WARN, policy=_TRUSTED,
        what="a tokenizer class of the folder's own loses the last id of every chat",
        change=_tokenizer("Losing", 'made["input_ids"][:-1] if hasattr(made, "keys") else made[:-1]'),
    ),
    Plant(
        base="mistral", code="HUB05", severity=Severity.WARN, depth=Level.EXECUTED,
        policy=_TRUSTED | {"prove_offline": True},
        what="a config class of the folder's own asks the network while it is made",
        change=_config("asking", _ASK),
    ),
    Plant(
        base="mistral", code="ENV02", depth=Level.INSPECTED, command=_check, exit=1, said="ENV02",
        what="a config class of the folder's own ends the process that reads it",
        change=_config("ending", "os.abort()"),
    ),
)  # fmt: skip
