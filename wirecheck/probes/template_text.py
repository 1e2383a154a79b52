"""Which text the chat template is, by its digest, and which file of the snapshot holds it. No probe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from wirecheck.probe import ModelBench
from wirecheck.schema import Fact, Level
from wirecheck.snapshot import JsonUnreadable, Snapshot, TextUnreadable

CONFIG = "tokenizer_config.json"


def template_text(bench: ModelBench) -> Fact:
    """The SHA-256 of the template's text, of several each with its name; the source is the file that holds the text.

    The tokenizer has a template. A text that no file of the snapshot holds is the tokenizer's.
    """
    held = bench.tokenizer.chat_template
    texts = {name: str(held[name]) for name in sorted(held)} if isinstance(held, dict) else {"default": str(held)}
    digests = {name: hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for name, text in texts.items()}
    alone = digests["default"] if list(digests) == ["default"] else None
    value = alone or ", ".join(f"{name} {digest}" for name, digest in digests.items())
    sources = [_source(bench.snapshot, name, text) for name, text in texts.items()]
    return bench.fact("template_sha256", value, Level.INSPECTED, "; ".join(dict.fromkeys(sources)))


def _source(snapshot: Snapshot, name: str, text: str) -> str:
    for file in ("chat_template.jinja", f"additional_chat_templates/{name}.jinja"):
        try:
            if text in _as_read(snapshot.read_text(file)):
                return snapshot.source(file)
        except TextUnreadable:
            continue
    try:
        declared = snapshot.read_json(CONFIG).get("chat_template")
    except JsonUnreadable:
        declared = None
    return snapshot.source(CONFIG, "chat_template") if text in _declared(declared) else "tokenizer.chat_template"


def _as_read(text: str) -> tuple[str, str]:
    """As it is, and with its line ends as Python reads them from a file."""
    return text, text.replace("\r\n", "\n").replace("\r", "\n")


def _declared(value: Any) -> Iterator[str]:
    """The templates of tokenizer_config.json: one, or a list of them by name."""
    if isinstance(value, str):
        yield value
    for one in value if isinstance(value, list) else ():
        if isinstance(one, dict) and isinstance(one.get("template"), str):
            yield one["template"]
