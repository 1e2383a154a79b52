"""Faults of a class that is fed `inputs_embeds`: EMB and CFG10, put into the class of the twin or of the real model."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import torch

from tests.planted.cases import Plant
from tests.planted.faults_weights import each
from tests.planted.trial import OWN
from wirecheck.schema import Level, Severity


class _Refuses:
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None:
            raise ValueError("this model takes input_ids")
        return super().forward(input_ids=input_ids, **rest)  # type: ignore[misc]


class _TakesIdsAlone:
    """Remote code written before anybody passed embeds: the keyword is not there."""

    def forward(self, input_ids: Any, **rest: Any) -> Any:
        if "inputs_embeds" in rest:
            raise TypeError("forward() got an unexpected keyword argument 'inputs_embeds'")
        return super().forward(input_ids=input_ids, **rest)  # type: ignore[misc]


class _ReadsShapeOfIds:
    def forward(self, input_ids: Any = None, **rest: Any) -> Any:
        _ = input_ids.shape
        return super().forward(input_ids=input_ids, **rest)  # type: ignore[misc]


class _Scaled:
    """Scales what it looks up, outside of the embedding module: embeds are taken as scaled already."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids) * 5.6  # type: ignore[attr-defined]
        return super().forward(inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]


class _ScaledTwice:
    """Scales whatever comes in, and the look-up has scaled it."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None:
            inputs_embeds = inputs_embeds * 5.6
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]


class _AddsPositions:
    """Positions of a table are added to what is looked up, and not to what is handed over."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)  # type: ignore[attr-defined]
            T, D = inputs_embeds.shape[1:]
            inputs_embeds = inputs_embeds + torch.outer(torch.linspace(-1, 1, T), torch.linspace(1, 9, D).sin())
        return super().forward(inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]


class _Ignores:
    """Looks embeds up again by their nearest... by nothing: zeros go in."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None:
            inputs_embeds = inputs_embeds * 0
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]


class _Nearest:
    """Soft tokens are rounded to the nearest row of the table: values agree for words, and no gradient is left."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None:
            table = self.get_input_embeddings().weight  # type: ignore[attr-defined]
            inputs_embeds = table[torch.cdist(inputs_embeds, table[None]).argmin(-1)]
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]


class _NoGrad:
    @torch.no_grad()
    def forward(self, *args: Any, **rest: Any) -> Any:
        return super().forward(*args, **rest)  # type: ignore[misc]


class _Detached:
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None:
            inputs_embeds = inputs_embeds.detach()
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]


class _DetachedHalf:
    """The first half of the positions is a cache that was computed without gradients."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None:
            half = inputs_embeds.shape[1] // 2
            inputs_embeds = torch.cat((inputs_embeds[:, :half].detach(), inputs_embeds[:, half:]), dim=1)
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]


class _HashRouted:
    """Ids choose a shift of the logits, as hash routing chooses an expert."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        out = super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]
        shift = 0 if input_ids is None else (input_ids % 7)[..., None]
        return SimpleNamespace(logits=out.logits + shift)


class _SeesAhead:
    """A convolution over positions that looks one to the right."""

    def forward(self, *args: Any, **rest: Any) -> Any:
        out = super().forward(*args, **rest)  # type: ignore[misc]
        out.logits = out.logits + out.logits.roll(-1, dims=1) * 0.1
        return out


class _GeneratesShort:
    def generate(self, *args: Any, **rest: Any) -> Any:
        return super().generate(*args, **rest)[:, 1:]  # type: ignore[misc]


class _GenerateRefuses:
    def prepare_inputs_for_generation(self, input_ids: Any, past_key_values: Any = None) -> Any:
        return {"input_ids": input_ids, "past_key_values": past_key_values}


class _LengthCounts:
    """The share of real positions scales the vectors: padding reaches them."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        mask = rest.get("attention_mask")
        if inputs_embeds is not None and mask is not None and mask.shape[1] == inputs_embeds.shape[1]:
            inputs_embeds = inputs_embeds * (mask.sum(-1)[:, None, None] / mask.shape[1])
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]


class _NoMask:
    """The mask is accepted and not passed on."""

    def forward(self, *args: Any, **rest: Any) -> Any:
        rest = {key: value for key, value in rest.items() if key not in ("attention_mask", "position_ids")}
        return super().forward(*args, **rest)  # type: ignore[misc]


class _Recomputed:
    """Under checkpointing the inputs are re-entered without their gradient."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None and self.is_gradient_checkpointing:  # type: ignore[attr-defined]
            inputs_embeds = inputs_embeds.detach()
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]


class _RecomputedTwice:
    """Under checkpointing a dropout that was drawn anew gives another gradient."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None and self.is_gradient_checkpointing:  # type: ignore[attr-defined]
            inputs_embeds = inputs_embeds + (inputs_embeds - inputs_embeds.detach()) * 0.5
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]


class _StaleCache:
    def forward(self, input_ids: Any = None, past_key_values: Any = None, **rest: Any) -> Any:
        out = super().forward(input_ids=input_ids, past_key_values=past_key_values, **rest)  # type: ignore[misc]
        if input_ids is not None and past_key_values is not None:
            out.logits = out.logits.flip(-1)
        return out


class _MaskedIsNan:
    """A statistic over the rows: one that is all padding makes it log(0), and the whole batch NaN."""

    def forward(self, *args: Any, attention_mask: Any = None, **rest: Any) -> Any:
        out = super().forward(*args, attention_mask=attention_mask, **rest)  # type: ignore[misc]
        if attention_mask is not None and attention_mask.dim() == 2:
            out.logits = out.logits + (0 * torch.log(attention_mask.sum(-1).float())).sum()
        return out


class _InPlace:
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None and not inputs_embeds.requires_grad:
            inputs_embeds *= 2.0
            return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds / 2.0, **rest)  # type: ignore[misc]
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)  # type: ignore[misc]


class _Shifted:
    """A constant is added to every vector before the first block, words and soft tokens alike."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        given = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds  # type: ignore[attr-defined]
        return super().forward(inputs_embeds=given * 3, **rest)  # type: ignore[misc]


def _mixed(mixin: type) -> Any:
    return lambda kind: type(f"{mixin.__name__[1:]}{kind.__name__}", (mixin, kind), {})


def _classes(rows: Iterable[tuple[Any, ...]], depth: Level, **asked: Any) -> tuple[Plant, ...]:
    made = []
    for base, code, what, mixin, *more in rows:
        severity = Severity(more[0]) if more else Severity.BLOCK
        wire = OWN if len(more) > 1 else {}
        common = {"base": base, "code": code, "what": what, "severity": severity, "depth": depth, "wire": wire} | asked
        made.append(Plant(class_=_mixed(mixin), **common))
    return tuple(made)


_TRAP = ("warn", "own")

EMBEDS = (
    *_classes(
        (
            ("mistral", "EMB01", "the class raises where embeds are given", _Refuses),
            ("gpt2", "EMB01", "the class has no such keyword", _TakesIdsAlone),
            ("phi3", "EMB01", "the class asks the ids for their shape", _ReadsShapeOfIds),
            ("qwen3", "EMB02", "ids are scaled by the class, embeds are not", _Scaled),
            ("gemma", "EMB02", "embeds are scaled a second time", _ScaledTwice),
            ("gpt2", "EMB02", "positions are added to ids alone", _AddsPositions),
            ("mixtral", "EMB03", "embeds are multiplied by zero", _Ignores),
            ("mistral", "EMB05", "embeds are rounded to rows of the table", _Nearest),
            ("qwen3", "EMB05", "the class runs under no_grad", _NoGrad),
            ("phi3", "EMB05", "embeds are detached", _Detached),
            ("mixtral", "EMB05", "the first half of the embeds is detached", _DetachedHalf),
            ("mistral", "CFG10", "ids choose experts beside the embedding", _HashRouted),
            ("qwen3", "CFG03", "a convolution looks one position ahead", _SeesAhead),
            ("mistral", "EMB04", "generation from embeds gives a token too few", _GeneratesShort, *_TRAP),
            ("qwen3", "EMB04", "generation does not take embeds", _GenerateRefuses, *_TRAP),
            ("mistral", "EMB06", "padding on the right reaches real positions", _LengthCounts, "warn"),
            ("qwen3", "EMB06", "the mask is not passed on", _NoMask, *_TRAP),
            ("mistral", "EMB08", "the cache's continuation is not the full forward's", _StaleCache, "warn"),
            ("qwen3", "EMB09", "a row of padding alone makes the batch NaN", _MaskedIsNan, *_TRAP),
            ("mistral", "EMB12", "embeds are scaled in place", _InPlace, *_TRAP),
            ("qwen3", "EMB10", "the class scales every vector before its first block", _Shifted, "note"),
        ),
        Level.SIMULATED,
    ),
    *_classes(
        (
            ("mistral", "EMB07", "checkpointing loses the gradient to embeds", _Recomputed),
            ("phi3", "EMB07", "checkpointing gives another gradient to embeds", _RecomputedTwice),
        ),
        Level.SIMULATED,
        train={"grad_checkpointing": True},
    ),
    *_classes(
        (
            ("llama", "EMB02", "the real class scales ids alone, the weights are sound", _Scaled),
            ("qwen", "EMB05", "the real class detaches embeds", _Detached),
        ),
        Level.EXECUTED,
    ),
    Plant(
        base="qwen3",
        code="EMB10",
        severity=Severity.NOTE,
        depth=Level.SIMULATED,
        what="config.json multiplies embeddings by 12, as Granite's does",
        change=lambda m: (
            each("q_norm", lambda t: t)(m),
            m.config(
                ["layer_types"], model_type="granite", architectures=["GraniteForCausalLM"], embedding_multiplier=12.0
            ),
        ),
    ),
)
