"""What one planted fault or harmless change is, and the folder of a model that it is put into."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wirecheck.schema import Level, Severity

Tensors = dict[str, Any]
"""Tensor name -> torch tensor."""


@dataclass(frozen=True)
class Folder:
    """A copy of a sound model, to be changed."""

    path: Path

    def json(self, name: str) -> Any:
        """A JSON file of the folder."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def put(self, name: str, content: Any) -> None:
        """Write a file: bytes and text as they are, anything else as JSON."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    def text(self, name: str) -> str:
        """A file as text."""
        return (self.path / name).read_text(encoding="utf-8")

    def remove(self, *names: str) -> None:
        """Take files away."""
        for name in names:
            (self.path / name).unlink()

    def edit(self, name: str, without: Iterable[str] = (), **changes: Any) -> None:
        """Change keys of a JSON object, and leave some out."""
        content = {key: value for key, value in (self.json(name) | changes).items() if key not in set(without)}
        self.put(name, content)

    def config(self, without: Iterable[str] = (), **changes: Any) -> None:
        """Change config.json."""
        self.edit("config.json", without, **changes)

    def tokenizer(self, change: Callable[[Any], None]) -> None:
        """Change tokenizer.json in place."""
        content = self.json("tokenizer.json")
        change(content)
        self.put("tokenizer.json", content)

    def template(self, change: Callable[[str], str]) -> None:
        """Change the chat template, wherever it is kept."""
        if (self.path / "chat_template.jinja").is_file():
            self.put("chat_template.jinja", change(self.text("chat_template.jinja")))
        else:
            self.edit(
                "tokenizer_config.json", chat_template=change(self.json("tokenizer_config.json")["chat_template"])
            )

    @property
    def shards(self) -> list[Path]:
        """The safetensors files, by name."""
        return sorted(self.path.glob("*.safetensors"))

    def tensors(self) -> Tensors:
        """Every tensor of every shard."""
        from safetensors.torch import load_file

        return {name: tensor for shard in self.shards for name, tensor in load_file(shard).items()}

    def weights(self, change: Callable[[Tensors], None]) -> None:
        """Change tensors shard by shard; `change` sees one shard's tensors and alters the dict."""
        from safetensors.torch import load_file, save_file

        for shard in self.shards:
            tensors = dict(load_file(shard))
            change(tensors)
            save_file({k: t.contiguous() for k, t in tensors.items()}, shard, metadata={"format": "pt"})

    def header(self, change: Callable[[dict[str, Any]], None], shard: int = 0) -> None:
        """Change one shard's header; the bytes behind it stay."""
        raw = self.shards[shard].read_bytes()
        end = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:end])
        change(header)
        text = json.dumps(header).encode()
        self.shards[shard].write_bytes(len(text).to_bytes(8, "little") + text + raw[end:])

    def rows(self, names: str, count: int) -> None:
        """Cut or pad (with copies of the first rows) the tables whose name holds one of `names` to `count` rows."""
        import torch

        def resized(tensors: Tensors) -> None:
            for name, table in tensors.items():
                if any(part in name for part in names.split()):
                    tensors[name] = torch.cat((table, table))[:count].clone()

        self.weights(resized)


Change = Callable[[Folder], Any]


def nothing(_: Folder) -> None:
    """The model is as it was; the fault is elsewhere."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What a check is asked, where it is not the default of the corpus."""

    depth: Level = Level.INSPECTED
    policy: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    wire: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case(Asked):
    """One change of one sound model (or of the pair `base` + `beside`), or of what is asked."""

    base: str
    what: str
    """In one line, as the page lists it."""
    change: Change = nothing
    beside: str | None = None
    """The sound model on side B of a pair; None: one model alone."""
    class_: Callable[[type], type] | None = None
    """What becomes of the class of the model, for faults of a class: the twin and the real weights get it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plant(Case):
    """A fault, and the code that must fire."""

    code: str
    severity: Severity = Severity.BLOCK
    ask_policy: Callable[[Folder], dict[str, Any]] | None = None
    """What the policy holds about the sound model, such as digests."""
    against: tuple[str, str | None] | None = None
    """The sound models that the outcome is held against, where these are not base and beside."""
    ref: str | None = None
    """What the user typed, where the model is to be taken for one of the hub."""
    command: Callable[[Path, Path], tuple[int, str]] | None = None
    """For what ends a command before any finding: runs it on (changed folder, empty folder); exit code and words."""
    exit: int = 0
    said: str = ""

    why_missed: str = ""
    """For a fault that is known not to be found: why, in a sentence for the page."""

    @property
    def family(self) -> str:
        """The three letters."""
        return self.code[:3]


@dataclass(frozen=True, kw_only=True, eq=False)
class Harmless(Case):
    """A change that means nothing: verdict, warnings and blocks must stay as they were."""

    notes: tuple[str, ...] = ()
    """Codes of notes that may come."""


def plants(base: str, rows: Iterable[tuple[Any, ...]], **common: Any) -> tuple[Plant, ...]:
    """Rows of (code, what, change) or (code, what, change, severity) on one base."""
    made = []
    for code, what, change, *more in rows:
        severity = Severity(more[0]) if more else Severity.BLOCK
        made.append(Plant(code=code, base=base, what=what, change=change, severity=severity, **common))
    return tuple(made)
