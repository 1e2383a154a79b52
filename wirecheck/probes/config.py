"""CFG, static part: what config.json declares, held against itself, the installed classes and the run. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from wirecheck.geometry import Geometry, lookup, read_geometry, shown
from wirecheck.lm_head import read_head
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.probes.length import judge_length
from wirecheck.quantization import narrow_matrices, read_quantization
from wirecheck.rope import rope_words, rotary_size, scaled_positions
from wirecheck.schema import Evidence, Finding, Level, Scalar, Severity
from wirecheck.snapshot import JsonUnreadable

FILE = "config.json"
_FACTS = (
    *("model_type", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "intermediate_size"),
    *("vocab_size", "max_positions", "tied", "dtype", "sliding_window", "num_experts", "experts_per_token"),
)
_RESTORE_QUANTIZATION = (
    "Restore `quantization_config` in config.json from the publisher's commit, or take the unquantized checkpoint."
)
_LONGEST_NUMBER = 7
"""Digits a part of a version may have."""


@dataclass(frozen=True)
class _Desk:
    """One config.json laid open beside the bench."""

    bench: ModelBench
    raw: Mapping[str, Any]
    geometry: Geometry

    def seen(self, key: str, observed: Scalar, expected: Scalar = None) -> Evidence:
        """Evidence from the bytes of config.json."""
        return Evidence(
            level=Level.INSPECTED,
            source=self.bench.snapshot.source(FILE, key),
            observed=observed,
            expected=expected,
        )

    def declared(self, field: str) -> Evidence:
        """Evidence of one field of the geometry."""
        return self.seen(self.geometry.key(field) or field, getattr(self.geometry, field))

    def installed(self, observed: Scalar, expected: Scalar = None) -> Evidence:
        """Evidence from the class table of the installed transformers."""
        source = f"class table of transformers {_transformers_version()}"
        return Evidence(level=Level.INSPECTED, source=source, observed=observed, expected=expected)


def _run(bench: ModelBench) -> Iterator[Yielded]:
    try:
        raw = bench.snapshot.read_json(FILE)
    except JsonUnreadable as error:
        source = bench.snapshot.source(FILE)
        seen = Evidence(level=Level.INSPECTED, source=source, observed=str(error), expected="a JSON object")
        claim = f"The model's config cannot be read: {error}."
        if bench.snapshot.ref.kind == "gguf":
            claim = f"No config can be made from the metadata of {bench.snapshot.ref.name}."
        yield bench.found("CFG01", claim, seen)
        return
    desk = _Desk(bench, raw, read_geometry(raw))
    yield bench.ok("CFG01", f"config.json is a JSON object with {len(raw)} keys.", desk.seen("", len(raw)))
    yield from _facts(desk)
    checks: tuple[Callable[[_Desk], Iterator[Yielded]], ...] = (
        _class,
        _head,
        _sizes,
        _place,
        _quantized,
        _length,
        _dtype,
    )
    for check in checks:
        yield from check(desk)


def _facts(desk: _Desk) -> Iterator[Yielded]:
    bench, geometry = desk.bench, desk.geometry
    for field in _FACTS:
        value = getattr(geometry, field)
        if value is not None:
            key = geometry.key(field) or "hidden_size / attention heads"
            yield bench.fact(field, value, Level.DECLARED, bench.snapshot.source(FILE, key))
    if geometry.architectures:
        source = bench.snapshot.source(FILE, "architectures")
        yield bench.fact("architecture", geometry.architectures[0], Level.DECLARED, source)
    rope = rope_words(desk.raw, geometry.nested)
    if rope:
        yield bench.fact("rope", rope[0], Level.DECLARED, bench.snapshot.source(FILE, rope[1]))
    for key in (f"{geometry.nested}.bos_token_id", "bos_token_id") if geometry.nested else ("bos_token_id",):
        bos = lookup(desk.raw, key)
        if isinstance(bos, int) and not isinstance(bos, bool):
            yield bench.fact("config_bos_id", bos, Level.DECLARED, bench.snapshot.source(FILE, key))
            break


def _class(desk: _Desk) -> Iterator[Yielded]:
    from wirecheck import zoo

    bench, model_type = desk.bench, desk.geometry.model_type
    auto_map = desk.raw.get("auto_map")
    offers_code = isinstance(auto_map, Mapping) and bool(auto_map)
    offered = desk.seen("auto_map", shown(auto_map) if auto_map else None)
    if model_type is not None and model_type in zoo.known_model_types():
        known = desk.installed(model_type)
        yield bench.ok("CFG02", f"The installed transformers has a class for model type {model_type}.", known)
        words = "config.json names code of the repository, which the native class makes needless."
        yield bench.ok("CFG04", words if offers_code else "The model needs no code of the repository.", known, offered)
        return
    unknown = desk.installed(None, model_type)
    if not offers_code:
        yield bench.found("CFG02", *_unknown_class(desk, unknown))
        return
    claim = f"Model type {model_type} has no class in the installed transformers, only Python files of the repository."
    if bench.policy.trust_remote_code:
        claim = f"Model type {model_type} runs Python files of the repository, as --trust-remote-code allows."
        yield bench.found("CFG04", claim, unknown, offered, severity=Severity.NOTE)
    else:
        yield bench.found("CFG04", claim, unknown, offered)


def _unknown_class(desk: _Desk, unknown: Evidence) -> tuple[str, Evidence, Evidence]:
    installed, written = _transformers_version(), desk.raw.get("transformers_version")
    seen = desk.seen("transformers_version", shown(written)[1:-1] if isinstance(written, str) else None)
    if desk.geometry.model_type is None:
        claim = "config.json names no model type, so no class can be chosen for it."
        return claim, desk.seen("model_type", shown(desk.raw.get("model_type")), "a model type"), seen
    claim = f"transformers {installed} has no class for model type {desk.geometry.model_type}"
    if isinstance(written, str) and _release(written) > _release(installed):
        claim += f"; config.json was written by the newer {shown(written)[1:-1]}, which should have it"
    elif isinstance(written, str) and _release(written):
        claim += f"; config.json was written by {shown(written)[1:-1]}, which is no newer"
    return claim + ".", unknown, seen


def _head(desk: _Desk) -> Iterator[Yielded]:
    from wirecheck import zoo

    bench = desk.bench
    head = read_head(desk.raw, desk.geometry, zoo.causal_model_types())
    names = ", ".join(desk.geometry.architectures) or None
    seen = desk.seen(head.key, names if head.key == "architectures" else shown(desk.raw.get(head.key)))
    known = desk.geometry.model_type in zoo.known_model_types()
    match head.kind:
        case "causal":
            yield bench.ok("CFG03", f"The checkpoint is a causal language model: {head.because}.", seen)
        case "unknown" | "wrapper" | "bare" | "other-head" if not known:
            claim = (
                f"What kind of head the checkpoint has is not established, as its class is not native: {head.because}."
            )
            yield bench.found("CFG03", claim, seen, severity=Severity.NOTE)
        case "bare" if desk.geometry.tied is not False:
            claim = f"The checkpoint was saved without a language-model head: {head.because}."
            yield bench.found(
                "CFG03", claim, seen, desk.seen("tie_word_embeddings", desk.geometry.tied), severity=Severity.WARN
            )
        case _:
            table = desk.installed(
                desk.geometry.model_type if desk.geometry.model_type in zoo.causal_model_types() else None
            )
            yield bench.found("CFG03", f"The checkpoint is not a causal language model: {head.because}.", seen, table)


def _sizes(desk: _Desk) -> Iterator[Yielded]:
    bench, geometry = desk.bench, desk.geometry
    faults = [(f"{f.key} is {f.value}, which {f.why}", desk.seen(f.key, f.value)) for f in geometry.faults]
    faults += [(words, desk.seen(key, observed, expected)) for words, key, observed, expected in _contradictions(desk)]
    if faults:
        for words, evidence in faults:
            yield bench.found("CFG05", f"The declared sizes do not hold together: {words}.", evidence)
        return
    fields = ("hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "vocab_size")
    seen = [desk.declared(field) for field in fields if geometry.key(field)]
    if not seen:
        claim = "config.json declares no size, so all of them are left to the defaults of the class."
        yield bench.found("CFG05", claim, desk.seen("hidden_size", None), severity=Severity.NOTE)
        return
    yield bench.ok("CFG05", "The declared sizes are whole, positive and agree with one another.", *seen)


def _contradictions(desk: _Desk) -> Iterator[tuple[str, str, Scalar, Scalar]]:
    """(words, key, observed, expected) of each pair of sizes that cannot both hold."""
    g, raw = desk.geometry, desk.raw
    heads_key, kv_key = g.key("num_heads") or "num_heads", g.key("num_kv_heads") or "num_kv_heads"
    latent_attention = lookup(raw, f"{g.nested}.kv_lora_rank" if g.nested else "kv_lora_rank") is not None
    if g.hidden_size and g.num_heads and g.head_dim is None and not latent_attention and g.hidden_size % g.num_heads:
        yield f"{g.num_heads} heads do not divide hidden size {g.hidden_size}", heads_key, g.num_heads, None
    if g.num_heads and g.num_kv_heads and g.num_heads % g.num_kv_heads:
        words = f"{g.num_kv_heads} key-value heads do not divide {g.num_heads} heads"
        yield words, kv_key, g.num_kv_heads, f"a divisor of {g.num_heads}"
    rotary = rotary_size(raw, g)
    if rotary is not None and (rotary % 2 or rotary < 1):
        yield (
            f"{rotary} rotated dimensions per head are not an even number",
            g.key("head_dim") or "head_dim",
            rotary,
            "even",
        )
    if g.num_experts and g.experts_per_token and g.experts_per_token > g.num_experts:
        key = g.key("experts_per_token") or "num_experts_per_tok"
        yield f"{g.experts_per_token} experts per token of {g.num_experts}", key, g.experts_per_token, g.num_experts
    key = f"{g.nested}.layer_types" if g.nested else "layer_types"
    kinds = lookup(raw, key)
    if isinstance(kinds, list) and g.num_layers and len(kinds) != g.num_layers:
        yield f"layer_types names {len(kinds)} layers, there are {g.num_layers}", key, len(kinds), g.num_layers


def _place(desk: _Desk) -> Iterator[Yielded]:
    nested = desk.geometry.nested
    seen = desk.declared("hidden_size")
    if nested:
        claim = f"The sizes of the language model are read from {nested}, not from the top level of config.json."
        yield desk.bench.found("CFG06", claim, seen)
    else:
        yield desk.bench.ok("CFG06", "The sizes of the language model are at the top level of config.json.", seen)


def _quantized(desk: _Desk) -> Iterator[Yielded]:
    bench, quantized = desk.bench, read_quantization(desk.raw, desk.geometry.nested)
    if quantized is None:
        yield _undeclared(desk)
        return
    yield bench.fact("quantization", quantized.method, Level.DECLARED, bench.snapshot.source(FILE, quantized.key))
    seen = [desk.seen(quantized.key, quantized.method)]
    narrow = sorted(t.name for t in bench.snapshot.tensors.values() if t.dtype.startswith(("F8", "F4", "F6")))
    if narrow:
        seen.append(
            Evidence(
                level=Level.INSPECTED, source=f"tensor {narrow[0]}", observed=f"{len(narrow)} tensors in 8 bits or less"
            )
        )
    method, why = quantized.method, quantized.why
    if quantized.backward == "lost":
        claim = f"The checkpoint loads as {method} layers, and no gradient can be relied on to pass them: {why}."
        yield bench.found("CFG07", claim, *seen)
    elif quantized.backward == "depends":
        claim = f"Whether a gradient passes the checkpoint's {method} layers depends on how they are loaded: {why}."
        yield bench.found("CFG07", claim, *seen, severity=Severity.WARN)
    else:
        claim = f"The checkpoint is quantized with {method}, which lets the gradient to the soft tokens pass: {why}."
        yield bench.found("CFG07", claim, *seen, severity=Severity.NOTE)


def _undeclared(desk: _Desk) -> Finding:
    """CFG07 of a config that declares no quantization, where the headers on file may say otherwise."""
    bench, none = desk.bench, desk.seen("quantization_config", None)
    codes, plain = narrow_matrices(bench.snapshot.tensors)
    if not codes and not plain:
        return bench.ok("CFG07", "config.json declares no quantization.", none)
    found = codes or plain
    first = found[0]
    file = next(file.name for file in bench.snapshot.weights if first in file.tensors)
    source = bench.snapshot.source(file, first.name)
    seen = Evidence(level=Level.INSPECTED, source=source, observed=first.dtype, expected="16 bits or more")
    claim = (
        f"{len(found)} weight matrices are stored in 8 bits or less ({first.name} is {first.dtype}), "
        "and config.json declares no quantization: "
    )
    if codes:
        claim += "they are read as plain numbers, without the scales they need."
        return bench.found("CFG07", claim, seen, none, remedy=_RESTORE_QUANTIZATION)
    claim += "they have no scale and are read as plain numbers."
    return bench.found("CFG07", claim, seen, none, severity=Severity.WARN, remedy=_RESTORE_QUANTIZATION)


def _length(desk: _Desk) -> Iterator[Yielded]:
    bench = desk.bench
    limit = scaled_positions(desk.raw, desk.geometry)
    if limit is None:
        length = bench.train.sequence_length(bench.wire)
        claim = f"config.json declares no number of positions to hold the {length} of this run against."
        yield bench.found("CFG08", claim, desk.seen("max_position_embeddings", None, length), severity=Severity.NOTE)
        return
    yield judge_length(bench, limit, bench.snapshot.source(FILE, desk.geometry.key("max_positions")))


def _dtype(desk: _Desk) -> Iterator[Yielded]:
    bench, saved, run = desk.bench, desk.geometry.dtype, desk.bench.train.dtype
    seen = desk.seen(desk.geometry.key("dtype") or "dtype", saved, run)
    if saved == run:
        yield bench.ok("CFG12", f"The checkpoint's declared dtype is the run's: {run}.", seen)
    elif saved is None:
        yield bench.found("CFG12", f"config.json declares no dtype; the run loads the weights as {run}.", seen)
    else:
        yield bench.found("CFG12", f"config.json declares {saved}; the run casts the weights to {run}.", seen)


def _transformers_version() -> str:
    return version("transformers")


def _release(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: 5.6.0.dev0 gives (5, 6, 0)."""
    numbers = []
    for part in text.split("."):
        if not (part.isascii() and part.isdigit() and len(part) <= _LONGEST_NUMBER):
            break
        numbers.append(int(part))
    return tuple(numbers)


CONFIG = Probe(
    name="config",
    question="Does config.json describe a causal language model that this run can use?",
    scope="model",
    level=Level.INSPECTED,
    codes=("CFG01", "CFG02", "CFG03", "CFG04", "CFG05", "CFG06", "CFG07", "CFG08", "CFG12"),
    needs="files",
    run=_run,
)
