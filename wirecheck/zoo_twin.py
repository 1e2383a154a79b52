"""The twin: a model's own class, tiny and random, that stands for it where behaviour is asked and not weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wirecheck import zoo
from wirecheck.errors import CannotRun
from wirecheck.limits import machine_limit
from wirecheck.shrink import Shrunk, shrink, with_rows

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

TWIN_BYTES = 1_500_000_000
"""A twin above this is not made."""
NOISE = 0.1
"""Deviation given to the twin's biases, norms and gates, which start constant."""


@dataclass(frozen=True)
class Twin:
    """The model's own class, tiny and random, with what it has in common with the model and what it has not."""

    model: PreTrainedModel
    kept: tuple[str, ...]
    changed: tuple[str, ...]


def twin(config: PretrainedConfig, *, seed: int, max_rows: int | None = None) -> Twin:
    """The same class, tiny, random by `seed`, float32, frozen, in eval mode. Raises CannotRun.

    With `max_rows` the vocabulary shrinks to that many rows too, for those who bring no tokenizer. A wrapper that lacks
    a package here is stood for by its text model. torch's own random state is the same before and after.
    """
    import torch

    text = zoo.text_config(config)
    if type(text) is type(config):
        text = config  # of an encoder-decoder the library hands out a copy that lacks the decoder's own fields
    whole = config if _is_wrapped(config, text) else text
    tiny, small = _tiny(whole, text, max_rows)
    instead: tuple[str, ...] = ()
    try:
        hollow = zoo.build(tiny, device="meta")
    except CannotRun as error:
        lacking = machine_limit(error)
        if whole is text or not lacking or type(text) not in _classes():
            raise
        tiny, small = _tiny(text, text, max_rows)
        hollow = zoo.build(tiny, device="meta")
        lack = lacking.split(". ")[0]
        instead = (f"the text model {type(hollow).__name__} in place of its wrapper: {lack}",)
    needed = sum(tensor.numel() * tensor.itemsize for tensor in (*hollow.parameters(), *hollow.buffers()))
    if needed > TWIN_BYTES:
        raise CannotRun(f"the twin of {type(whole).__name__} would still take {needed} bytes")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = zoo.build(tiny, device="cpu")
    _spread(model, seed)
    plain = ("quantization_config left out",) if zoo.quantization(config) else ()
    return Twin(zoo.still(model), small.kept, small.changed + plain + instead)


def _tiny(whole: PretrainedConfig, text: PretrainedConfig, max_rows: int | None) -> tuple[PretrainedConfig, Shrunk]:
    """The config of the twin, and what was kept and changed of its text part. Raises CannotRun."""
    try:
        small = shrink(text.to_dict(), max_rows=max_rows)
        fields = small.fields if whole is text else _around(whole, text, small.fields, max_rows)
        with zoo.quiet():
            return type(whole).from_dict(fields), small
    except Exception as error:  # a config class may refuse a size with any error
        raise CannotRun(f"no twin of {type(whole).__name__} can be made: {zoo.told(error)}") from error


def _classes() -> Any:
    """Config class -> model class, as `AutoModelForCausalLM` maps them."""
    import transformers

    return transformers.AutoModelForCausalLM._model_mapping


def _is_wrapped(config: PretrainedConfig, text: PretrainedConfig) -> bool:
    """Whether the config that runs is not the text model's own, but one around it."""
    classes = _classes()
    return text is not config and classes.get(type(config), None) is not classes.get(type(text), None)


def _around(
    config: PretrainedConfig, text: PretrainedConfig, small_text: dict[str, Any], max_rows: int | None
) -> dict[str, Any]:
    """The fields of a wrapper's config, with its text config made small already and the others' made small here."""
    fields: dict[str, Any] = config.to_dict()
    fields.pop("quantization_config", None)
    for key, value in fields.items():
        if getattr(config, key, None) is text:
            fields[key] = small_text
        elif key.endswith("_config") and isinstance(value, dict):
            fields[key] = shrink(value, max_rows=max_rows).fields
        elif max_rows is not None:
            fields[key] = with_rows(key, value, max_rows)
    return fields


def _spread(model: PreTrainedModel, seed: int) -> None:
    """Give linear and embedding weights a deviation of fan_in^-1/2, and every constant vector some noise.

    The library's 0.02 is meant for wide layers: at the twin's width attention would be flat and logits near zero. A
    bias, gate or scale that starts at zero closes the path behind it, and what goes wrong there would not show.
    """
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    spread: set[int] = set()
    for module in model.modules():
        weight: Any = getattr(module, "weight", None)
        transposed = type(module).__name__ == "Conv1D"  # GPT-2's linear layer holds (in, out)
        is_matrix = isinstance(module, nn.Linear | nn.Embedding) or transposed
        if is_matrix and id(weight) not in spread:
            spread.add(id(weight))
            weight.data.normal_(0.0, weight.shape[0 if transposed else 1] ** -0.5, generator=generator)
    for vector in model.parameters():
        if id(vector) not in spread and vector.is_floating_point() and bool((vector == vector.flatten()[0]).all()):
            vector.data.add_(torch.empty_like(vector).normal_(0.0, NOISE, generator=generator))
