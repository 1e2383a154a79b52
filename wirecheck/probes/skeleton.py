"""Does what the files hold fit the class that will read it? Names and shapes, through transformers' own conversion."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from wirecheck.class_fit import Fit
from wirecheck.errors import CannotRun
from wirecheck.geometry import read_geometry
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.probes.length import judge_length
from wirecheck.rope import scaled_positions
from wirecheck.schema import Evidence, Level, Scalar, Severity

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SHOWN = 3
"""Tensors named in a claim; the evidence names more."""
LISTED = 16
_SHOWN_NAME = 60
_MORE_LAYERS = (
    "Set the number of layers in config.json to what the files hold; layers that only predict further tokens can stay."
)


def _run(bench: ModelBench) -> Iterator[Yielded]:
    from wirecheck import zoo

    model = bench.skeleton
    config = zoo.text_config(bench.config)
    source = f"{type(model).__name__}({bench.snapshot.source('config.json')})"
    for key, value in resolved(model, config).items():
        if value is not None:
            yield bench.fact(key, value, Level.INSPECTED, source)
    yield from _length(bench, zoo.positions(config), source)
    yield from _implementation(bench)
    if any(file.format == "pickle" for file in bench.snapshot.weights):
        raise CannotRun(f"the weights are pickles, never opened here: what {type(model).__name__} finds is not known")
    kinds = frozenset(_kind(name) for name in model.state_dict())
    yield from judge(bench, zoo.fit(bench.snapshot, bench.config), kinds)


def _implementation(bench: ModelBench) -> Iterator[Yielded]:
    """CFG13, where config.json names an implementation: the class is built with it, and not only with the library's."""
    from wirecheck import zoo_kernels

    named = zoo_kernels.named(bench.snapshot, trust_remote_code=bench.policy.trust_remote_code)
    if named is None:
        return
    class_name = type(bench.skeleton).__name__
    asked = f"config.json names the {named.key} {named.value[:_SHOWN_NAME]!r}"
    found = "not tried" if named.is_fetched else named.refusal or "built"
    source = f"{class_name} built with the {named.key} of config.json"
    seen = Evidence(level=Level.INSPECTED, source=source, observed=found, expected="built")
    if named.is_fetched:
        fetched = "code of another repository, which is fetched and run when the model is loaded; it was not tried here"
        yield bench.found("CFG13", f"{asked}: {fetched}.", seen)
    elif named.refusal is not None:
        yield bench.found("CFG13", f"{asked}, which does not load here: {named.refusal}.", seen)
    else:
        yield bench.ok("CFG13", f"{asked}, and {class_name} is built with it.", seen)


def _length(bench: ModelBench, resolved_limit: int | None, source: str) -> Iterator[Yielded]:
    """CFG08 by the class's own maximum, where config.json declares none; where it does, the config probe judged."""
    raw = bench.snapshot.read_json("config.json")
    geometry = read_geometry(raw)
    if geometry.max_positions is None and resolved_limit is not None:
        limit = scaled_positions(raw, replace(geometry, max_positions=resolved_limit))
        assert limit is not None
        yield judge_length(bench, limit, source)


def judge(bench: ModelBench, fit: Fit, kinds: frozenset[str] = frozenset()) -> Iterator[Yielded]:
    """WGT05, WGT06 and WGT07 from one comparison; `kinds` are the names of the class, numbers left out."""
    where = f"tensor headers against {fit.class_name}"
    names_how, shapes_how = (f" ({how})" if how else "" for how in (fit.names_how, fit.shapes_how))

    def evidence(names: tuple[str, ...], expected: str) -> list[Evidence]:
        return [_seen(name, "absent" if expected == "on file" else "on file", expected) for name in names[:LISTED]]

    found = fit.num_expected - len(fit.missing)
    total = Evidence(level=Level.INSPECTED, source=where, observed=found, expected=fit.num_expected)
    if fit.missing:
        claim = f"No file holds {_some(fit.missing)}, which {fit.class_name} expects and no tie provides."
        yield bench.found("WGT05", claim, *evidence(fit.missing, "on file"))
    else:
        claim = f"Every one of the {fit.num_expected} tensors {fit.class_name} expects is on file or tied{names_how}."
        yield bench.ok("WGT05", claim, total)
    further = tuple(name for name in fit.unexpected if _kind(name) in kinds)
    if further:
        claim = (
            f"The files hold {_some(further)}, of a kind that {fit.class_name} has, and the config leaves them out: "
            "it names fewer layers than were trained."
        )
        yield bench.found("WGT06", claim, *evidence(further, "read"), severity=Severity.WARN, remedy=_MORE_LAYERS)
    elif fit.unexpected:
        claim = f"The files hold {_some(fit.unexpected)}, which {fit.class_name} does not read."
        yield bench.found("WGT06", claim, *evidence(fit.unexpected, "not read"))
    else:
        yield bench.ok("WGT06", f"{fit.class_name} reads every tensor on file{names_how}.", total)
    if fit.misshapen:
        first = fit.misshapen[0]
        claim = (
            f"{_count(len(fit.misshapen))} on file not in the shape the config implies: "
            f"{first.name} is {first.on_file}, {fit.class_name} has {first.expected}."
        )
        yield bench.found("WGT07", claim, *(_seen(m.name, m.on_file, m.expected) for m in fit.misshapen[:LISTED]))
    else:
        yield bench.ok("WGT07", f"Every tensor on file has the shape {fit.class_name} expects{shapes_how}.", total)


def _kind(name: str) -> str:
    """A tensor's name without its numbers, which all layers share."""
    return re.sub(r"\d+", "#", name)


def _seen(name: str, observed: str, expected: str) -> Evidence:
    return Evidence(level=Level.INSPECTED, source=name, observed=observed, expected=expected)


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{len(names)} tensors, {shown} among them"


def _count(number: int) -> str:
    return "1 tensor is" if number == 1 else f"{number} tensors are"


def resolved(model: PreTrainedModel, config: Any) -> dict[str, Scalar]:
    """The model's geometry as its class resolves it, defaults included; None where the class has no such thing."""
    from wirecheck.zoo import positions

    table = cast("torch.Tensor", model.get_input_embeddings().weight)
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    heads = _number(config, "num_attention_heads")
    width = _number(config, "hidden_size")
    head_dim = _attribute(model, "head_dim") or _number(config, "head_dim")
    if head_dim is None and heads and width:
        head_dim = width // heads
    return {
        "architecture": type(model).__name__,
        "hidden_size": width or table.shape[1],
        "num_layers": _number(config, "num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": _kv_heads(model, config) or heads,
        "head_dim": head_dim,
        "vocab_size": table.shape[0],
        "max_positions": positions(config),
        "tied": head is not None and head.weight is table,
    }


def _kv_heads(model: PreTrainedModel, config: Any) -> int | None:
    return _number(config, "num_key_value_heads") or _attribute(model, "num_key_value_heads", "num_kv_heads")


def _number(config: Any, *names: str) -> int | None:
    found = (getattr(config, name, None) for name in names)
    return next((v for v in found if isinstance(v, int) and not isinstance(v, bool)), None)


def _attribute(model: PreTrainedModel, *names: str) -> int | None:
    """The first module's own word on a size: what the class computed, not what the config says."""
    for module in model.modules():
        value = _number(module, *names)
        if value is not None:
            return value
    return None


SKELETON = Probe(
    name="class-fit",
    question="Do the names and shapes on file fit the class that will read them?",
    scope="model",
    level=Level.INSPECTED,
    codes=("CFG08", "CFG13", "WGT05", "WGT06", "WGT07"),
    needs="torch",
    requires=("config", "weights"),
    moot_after=("CFG01", "CFG02", "CFG03", "CFG05", "WGT01", "WGT02", "WGT03", "WGT04"),
    run=_run,
)
