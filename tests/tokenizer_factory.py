"""Small tokenizers made by code, saved as the folder of a model: tokenizer, templates, configs, and no weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from wirecheck.probe import ModelBench
from wirecheck.probe_run import run_one
from wirecheck.schema import Fact, Finding, Policy, ProbeRun, Ran, TrainSpec, WireSpec
from wirecheck.snapshot import parse_ref, take

CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<s>", "<|im_start|>", "<|im_end|>", "<pad>")
"""Ids 256 to 259, behind the 256 bytes."""
BOS, START, END, PAD = range(256, 260)
VOCABULARY = 260


def byte_level(
    specials: Sequence[str | AddedToken] = SPECIALS, added: Sequence[str | AddedToken] = (), front: Sequence[str] = ()
) -> Tokenizer:
    """One token per byte, then `specials`, then `added` (not special); `front` is put before every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(specials))
    core.add_tokens(list(added))
    if front:
        known = [(token, core.token_to_id(token)) for token in sorted(set(front))]
        core.post_processor = processors.TemplateProcessing(single=[*front, "$A"], special_tokens=known)
    return core


def unigram(specials: Sequence[str] = ("</s>",), *, unk: str = "</s>") -> Tokenizer:
    """Lower-case Latin letters with a sentencepiece-like space; everything else is `unk`."""
    pieces = [(token, 0.0) for token in specials] + [(c, -3.0) for c in "▁abcdefghijklmnopqrstuvwxyz.,"]
    core = Tokenizer(models.Unigram(pieces, unk_id=list(specials).index(unk), byte_fallback=False))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    core.add_special_tokens(list(specials))
    return core


def save(
    folder: Path,
    core: Tokenizer | None = None,
    *,
    template: str | None = CHATML,
    templates: dict[str, str] | None = None,
    config: dict[str, Any] | None = None,
    generation: dict[str, Any] | None = None,
    **tokenizer_config: Any,
) -> Path:
    """A sound model's folder, but for what is asked otherwise; a key given as None is left out.

    `templates` are further ones, by name; `generation` {} leaves generation_config.json out.
    """
    folder.mkdir(exist_ok=True)
    (core or byte_level(front=["<s>"])).save(str(folder / "tokenizer.json"))
    roles = {"bos_token": "<s>", "eos_token": "<|im_end|>", "pad_token": "<pad>"}
    _write(
        folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **roles, **tokenizer_config}
    )
    sizes = {"model_type": "llama", "vocab_size": VOCABULARY, "bos_token_id": BOS, "eos_token_id": END}
    _write(folder / "config.json", {**sizes, **(config or {})})
    if generation != {}:
        _write(folder / "generation_config.json", {"eos_token_id": END, **(generation or {})})
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    for name, source in (templates or {}).items():
        (folder / "additional_chat_templates").mkdir(exist_ok=True)
        (folder / "additional_chat_templates" / f"{name}.jinja").write_text(source, encoding="utf-8")
    return folder


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}), encoding="utf-8")


def bench(folder: Path, facts: tuple[Fact, ...] = ()) -> ModelBench:
    """The model of a folder, as side A."""
    snapshot = take(parse_ref(str(folder)))
    asked: dict[str, Any] = {"wire": WireSpec(), "train": TrainSpec(), "policy": Policy(), "seed": 0}
    return ModelBench(**asked, side="a", snapshot=snapshot, facts=facts)


def ran(probe: Any, folder: Path, facts: tuple[Fact, ...] = ()) -> Ran:
    """The probe's run on a folder, which has to come to its end."""
    run = run_one(probe, bench(folder, facts))
    assert isinstance(run, Ran), run
    return run


def found(run: ProbeRun, code: str) -> Finding:
    """The run's one finding of that code."""
    (finding,) = (f for f in run.findings if f.code == code)
    return finding


def seen(run: ProbeRun, code: str) -> list[str]:
    """The severities of a code's findings, in order."""
    return [f.severity.value for f in run.findings if f.code == code]


def facts(run: ProbeRun) -> dict[str, Any]:
    """The run's facts by name."""
    return {fact.key: fact.value for fact in run.facts}
