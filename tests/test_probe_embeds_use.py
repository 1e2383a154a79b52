"""How a class generates, pads and caches when fed `inputs_embeds`: sound classes, and one planted fault each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    CTRLConfig,
    CTRLLMHeadModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)

from tests.benches import model_bench, run
from tests.factories import needs_assets, seed_snapshot
from tests.test_probe_embeds import SIZES, tiny
from tests.uses import NARROW, OWN, gpt2, used
from wirecheck.demo import demo_folders
from wirecheck.errors import CannotRun
from wirecheck.probes.embeds_use import EMBEDS_USE


def gemma2() -> Any:
    return tiny(Gemma2ForCausalLM, Gemma2Config(**SIZES, head_dim=8, initializer_range=0.2))


def mamba() -> Any:
    model = tiny(MambaForCausalLM, MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=8, **NARROW))
    for p in model.parameters():  # as drawn, its states hardly carry anything
        p.data.add_(torch.empty_like(p).normal_(0.0, 0.1))
    return model


def recurrent_gemma() -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "lru_width": 32}
    config = RecurrentGemmaConfig(**sizes, num_hidden_layers=3, num_key_value_heads=1, head_dim=8, **NARROW)
    return tiny(RecurrentGemmaForCausalLM, config)


def ctrl() -> Any:
    return tiny(CTRLLMHeadModel, CTRLConfig(n_embd=32, dff=64, n_layer=2, n_head=4, n_positions=64, **NARROW))


# --- sound classes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny, gemma2], ids=["llama", "gemma2"])
def test_emb04_06_07_08_09_12_sound_class(make: Any) -> None:
    out = used(make(), asked=True, **OWN)
    assert {finding.code for finding in out.findings} == set(EMBEDS_USE.codes)
    assert out.fired == set()


@pytest.mark.parametrize("folder", demo_folders(), ids=lambda folder: folder.name)
def test_emb04_06_07_08_09_12_silent_on_the_demo_models(folder: Any) -> None:
    assert run(EMBEDS_USE, model_bench(folder)).fired == set()


@needs_assets
@pytest.mark.parametrize("name", ["Qwen__Qwen2.5-1.5B-Instruct", "mistralai__Mistral-7B-Instruct-v0.3"])
def test_emb04_06_07_08_09_12_silent_on_seed_models(tmp_path: Any, name: str) -> None:
    assert run(EMBEDS_USE, model_bench(seed_snapshot(name, tmp_path))).fired == set()


def test_every_tolerance_is_stated_beside_what_was_seen() -> None:
    (finding,) = used(tiny()).of("EMB08")
    assert "256 rounding steps of float32 at the largest logit" in str(finding.evidence[0].expected)


def test_a_machine_without_memory_is_no_fault_of_the_class() -> None:
    class Hungry(LlamaForCausalLM):
        def generate(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(CannotRun, match="not enough memory"):
        used(tiny(Hungry))


# --- EMB04 ---------------------------------------------------------------------------------------------------------


class DropsEmbeds(LlamaForCausalLM):
    def prepare_inputs_for_generation(self, input_ids: Any, **rest: Any) -> Any:
        rest.pop("inputs_embeds", None)
        return super().prepare_inputs_for_generation(input_ids, **rest)


class RefusesEmbeds(LlamaForCausalLM):
    def prepare_inputs_for_generation(self, input_ids: Any, past_key_values: Any = None) -> Any:
        return {"input_ids": input_ids, "past_key_values": past_key_values}


class OneTokenShort(LlamaForCausalLM):
    def generate(self, *args: Any, **rest: Any) -> Any:
        return super().generate(*args, **rest)[:, :-1]


class GeneratesFromOthers(LlamaForCausalLM):
    def generate(self, *args: Any, inputs_embeds: Any = None, **rest: Any) -> Any:
        return super().generate(*args, inputs_embeds=inputs_embeds.flip(1), **rest)


class NeedsMask(LlamaForCausalLM):
    def generate(self, *args: Any, attention_mask: Any = None, **rest: Any) -> Any:
        if attention_mask is None:
            rest["inputs_embeds"] = rest["inputs_embeds"][:, :5]
        return super().generate(*args, attention_mask=attention_mask, **rest)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (RefusesEmbeds, "raises ValueError when it is to generate from inputs_embeds"),
        (OneTokenShort, "returns 2 x 2 tokens for 2 rows of inputs_embeds, where 3 new ones each were asked"),
        (GeneratesFromOthers, "generates from inputs_embeds other tokens"),
        (NeedsMask, "NeedsMask, given no attention_mask, generates from inputs_embeds other tokens"),
    ],
)
def test_emb04_generation_fails(kind: type[Any], words: str) -> None:
    for changed, severity in ((OWN, "warn"), ({}, "note")):
        out = used(tiny(kind), **changed)
        assert out.severity("EMB04") == severity
        assert words in out.claim("EMB04")
        assert ("; the wires shipped here decode by forward calls" in out.claim("EMB04")) == (not changed)
        assert out.fired == {"EMB04"}


def test_emb04_embeds_dropped_on_the_way() -> None:
    assert used(tiny(DropsEmbeds), **OWN).severity("EMB04") == "warn"


def test_emb04_the_model_s_own_generation_config_is_neither_used_nor_lost() -> None:
    model = tiny()
    model.generation_config.update(eos_token_id=list(range(200)), suppress_tokens=list(range(100)))
    held = model.generation_config
    assert used(model).severity("EMB04") == "ok"
    assert model.generation_config is held


# --- EMB06 ---------------------------------------------------------------------------------------------------------


class ReadsPaddingOnTheRight(LlamaForCausalLM):
    """The last position's vector is added to all: padding behind a row reaches it."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        mask = rest.get("attention_mask")
        if inputs_embeds is not None and mask is not None and mask.shape[1] == inputs_embeds.shape[1]:
            length = mask.sum(-1)[:, None, None] / mask.shape[1]
            inputs_embeds = inputs_embeds * length
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)


class ForgetsTheMask(LlamaForCausalLM):
    """And the positions, from which the library would infer where a packed row begins."""

    def forward(self, *args: Any, **rest: Any) -> Any:
        rest = {key: value for key, value in rest.items() if key not in ("attention_mask", "position_ids")}
        return super().forward(*args, **rest)


class TakesNoPositions(GPT2LMHeadModel):
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, attention_mask: Any = None, **rest: Any) -> Any:
        if rest.pop("position_ids", None) is not None:
            raise TypeError("position_ids are counted by this class itself")
        given = {"inputs_embeds": inputs_embeds, "attention_mask": attention_mask}
        return super().forward(input_ids=input_ids, **given, **rest)


def test_emb06_padding_on_the_right_reaches_real_positions() -> None:
    out = used(tiny(ReadsPaddingOnTheRight))
    assert out.severity("EMB06") == "warn"
    assert "Padding on the right, under a mask, changes the logits" in out.claim("EMB06")


def test_emb06_left_padding_that_positions_mend_is_a_note() -> None:
    for changed in ({}, OWN):
        out = used(gpt2(), **changed)
        assert out.severity("EMB06") == "note"
        assert "unless position_ids are counted from the first real position" in out.claim("EMB06")
        assert ("the wires shipped here pad on the right" in out.claim("EMB06")) == (not changed)


@pytest.mark.parametrize(("changed", "severity"), [({}, "note"), (OWN, "warn")], ids=["shipped", "own"])
@pytest.mark.parametrize("make", [lambda: gpt2(TakesNoPositions), lambda: tiny(ForgetsTheMask)], ids=["gpt2", "llama"])
def test_emb06_left_padding_that_nothing_mends(make: Any, changed: Any, severity: str) -> None:
    out = used(make(), **changed)
    assert out.severity("EMB06") == severity
    assert "no position_ids mend it" in out.claim("EMB06")


# --- EMB08 ---------------------------------------------------------------------------------------------------------


class ForgetsThePast(LlamaForCausalLM):
    """Says of the next tokens something else than of the same ones in one forward."""

    def forward(self, input_ids: Any = None, past_key_values: Any = None, **rest: Any) -> Any:
        out = super().forward(input_ids=input_ids, past_key_values=past_key_values, **rest)
        if input_ids is not None and past_key_values is not None:
            out.logits = out.logits.flip(-1)
        return out


class CountsFromZero(LlamaForCausalLM):
    """Numbers every call's positions from 0 where they are not given."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if rest.get("position_ids") is None:
            given = inputs_embeds if input_ids is None else input_ids
            rest["position_ids"] = torch.arange(given.shape[1])[None].expand(len(given), -1)
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)


class OneByOne(LlamaForCausalLM):
    def forward(self, input_ids: Any = None, past_key_values: Any = None, **rest: Any) -> Any:
        out = super().forward(input_ids=input_ids, past_key_values=past_key_values, **rest)
        if past_key_values is not None and input_ids is not None and input_ids.shape[1] > 1:
            out.logits = out.logits.flip(-1)
        return out


class KeepsNone(LlamaForCausalLM):
    def forward(self, *args: Any, use_cache: Any = None, **rest: Any) -> Any:
        if use_cache:
            raise NotImplementedError("no cache here")
        return super().forward(*args, use_cache=False, **rest)


def test_emb08_the_cache_is_wrong_every_way() -> None:
    out = used(tiny(ForgetsThePast))
    assert out.severity("EMB08") == out.severity("EMB04") == "warn"
    assert "However ForgetsThePast is given its cache" in out.claim("EMB08")


def test_emb08_positions_are_needed() -> None:
    out = used(tiny(CountsFromZero))
    assert out.severity("EMB08") == "note"
    assert "only given position_ids at every step; the wires shipped here pass them" in out.claim("EMB08")
    assert used(tiny(CountsFromZero), **OWN).severity("EMB08") == "warn"


def test_emb08_several_at_once_are_wrong() -> None:
    out = used(tiny(OneByOne))
    assert out.severity("EMB08") == "note"
    assert "one token at a time, and wrongly several at once" in out.claim("EMB08")


def test_emb08_a_mask_spoils_the_state_of_mamba() -> None:
    out = used(mamba())
    assert out.severity("EMB08") == "note"
    assert "only given neither mask nor position_ids; the wires shipped here give a state no mask" in out.claim("EMB08")
    assert out.severity("EMB04") == "ok"
    assert used(mamba(), **OWN).severity("EMB08") == "warn"


def test_emb08_no_cache() -> None:
    out = used(tiny(KeepsNone))
    assert out.severity("EMB08") == "warn"
    assert "raises NotImplementedError when it is to keep a cache of inputs_embeds: no cache here" in out.claim("EMB08")
    kept_inside = used(recurrent_gemma())
    assert kept_inside.severity("EMB08") == "note"
    assert "hands back no cache" in kept_inside.claim("EMB08")
    assert kept_inside.severity("EMB04") == "ok"


def test_emb08_the_trap_of_a_short_mask_is_in_the_evidence_alone() -> None:
    (finding,) = used(tiny()).of("EMB08")
    assert finding.severity == "ok"
    (short,) = [e for e in finding.evidence if "a mask of length 1" in e.source]
    assert float(str(short.observed)) > 0.01


# --- EMB12 ---------------------------------------------------------------------------------------------------------


class ScalesInPlace(LlamaForCausalLM):
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None:
            inputs_embeds *= 2.0
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)


@pytest.mark.parametrize(("changed", "severity"), [({}, "note"), (OWN, "warn")], ids=["shipped", "own"])
def test_emb12_embeds_scaled_in_place(changed: Any, severity: str) -> None:
    out = used(tiny(ScalesInPlace), **changed)
    assert out.severity("EMB12") == severity
    assert "ScalesInPlace changes its caller's inputs_embeds in place" in out.claim("EMB12")
    (finding,) = out.of("EMB12")
    assert float(str(finding.evidence[1].observed)) > 0.01


def test_emb12_a_class_of_the_library_that_does() -> None:
    out = used(ctrl())
    assert out.severity("EMB12") == out.severity("EMB04") == "note"
    assert "does not support activation checkpointing" in out.claim("EMB07")
