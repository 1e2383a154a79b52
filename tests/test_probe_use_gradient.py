"""The gradient to the embeds with checkpointing on, and beside a row that is all padding: one planted fault each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from tests.test_probe_embeds import tiny
from tests.uses import OWN, gpt2, used
from wirecheck import embedding_checkpointing, zoo
from wirecheck.embedding_trial import Trial

# --- EMB07 ---------------------------------------------------------------------------------------------------------


class _Doubles(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad * 2


class OtherGradient(LlamaForCausalLM):
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if self.is_activation_checkpointing and self.training:
            inputs_embeds = _Doubles.apply(inputs_embeds)
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)


class NoGradient(LlamaForCausalLM):
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if self.is_activation_checkpointing and self.training:
            inputs_embeds = inputs_embeds.detach().requires_grad_()
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)


class Detached(LlamaForCausalLM):
    """No leaf stands in: the loss itself has no gradient."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if self.is_activation_checkpointing and self.training:
            inputs_embeds = inputs_embeds.detach()
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)


class NothingRecomputed(LlamaForCausalLM):
    """The flag is set, and nothing follows from it."""

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Any = None, **_: Any) -> None:
        self.model.gradient_checkpointing = True


class NotReentrant(LlamaForCausalLM):
    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Any = None, **_: Any) -> None:
        if gradient_checkpointing_kwargs["use_reentrant"]:
            raise ValueError("reentrant checkpointing is not for this class")
        super().gradient_checkpointing_enable(gradient_checkpointing_kwargs=gradient_checkpointing_kwargs)


class Unsupported(LlamaForCausalLM):
    supports_gradient_checkpointing = False


class OnlyInEval(LlamaForCausalLM):
    def forward(self, *args: Any, **rest: Any) -> Any:
        if self.training:
            raise ValueError("token_type_ids are required in training")
        return super().forward(*args, **rest)


@pytest.mark.parametrize("kind", [OtherGradient, NoGradient, Detached])
@pytest.mark.parametrize(
    ("changed", "severity"),
    [({"asked": True}, "block"), (OWN, "warn"), ({}, "note")],
    ids=["asked for", "own wire", "not asked for"],
)
def test_emb07_another_gradient(kind: type[Any], changed: Any, severity: str) -> None:
    out = used(tiny(kind), **changed)
    assert out.severity("EMB07") == severity
    assert "sends back no gradient to inputs_embeds, or another one" in out.claim("EMB07")
    assert out.fired == {"EMB07"}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (NothingRecomputed, "no layer is recomputed: it saves no memory"),
        (Unsupported, "cannot be run with gradient checkpointing: it raises ValueError"),
        (OnlyInEval, "In train mode, which checkpointing needs, OnlyInEval raises ValueError: token_type_ids"),
    ],
)
def test_emb07_no_checkpointing_is_a_note_unless_it_is_asked_for(kind: type[Any], words: str) -> None:
    for asked in (False, True):
        out = used(tiny(kind), asked=asked)
        assert out.severity("EMB07") == ("warn" if asked else "note")
        assert words in out.claim("EMB07")


def test_emb07_one_of_the_two_ways() -> None:
    out = used(tiny(NotReentrant))
    assert out.severity("EMB07") == "note"
    assert "use_reentrant=False alone (2 of 2 layers)" in out.claim("EMB07")


def test_emb07_recompute_is_counted_and_eval_mode_skips_it() -> None:
    (finding,) = used(tiny()).of("EMB07")
    assert "recomputes 2 of 2 layers" in finding.claim
    counts = {e.source.split(";")[0]: e.observed for e in finding.evidence if "layers recomputed" in e.source}
    assert counts == {
        "layers recomputed during backward, checkpointing on, train mode": 2,
        "layers recomputed during backward, checkpointing on, eval mode": 0,
    }


def test_emb07_dropout_of_the_class_does_not_tell_the_two_modes_apart() -> None:
    model = gpt2(resid_pdrop=0.5, embd_pdrop=0.5)
    assert used(model).severity("EMB07") == "ok"
    assert model.transformer.drop.p == 0.5


@pytest.mark.parametrize("kind", [LlamaForCausalLM, OtherGradient, OnlyInEval])
def test_emb07_the_twin_is_left_as_it_was(kind: type[Any]) -> None:
    model = tiny(kind)
    before = {name: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()}
    used(model)
    after = {name: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()}
    assert after == before
    assert not model.is_activation_checkpointing


def test_emb07_the_twin_is_left_as_it_was_after_an_error() -> None:
    trial = Trial(tiny(), 0, zoo.quiet)

    def fail() -> None:
        with embedding_checkpointing.training(trial):
            embedding_checkpointing.enable(trial, use_reentrant=False)
            assert trial.model.is_activation_checkpointing
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not any(m.training for m in trial.model.modules())
    assert not trial.model.is_activation_checkpointing
    assert not trial.model.get_input_embeddings()._forward_hooks


# --- EMB09 ---------------------------------------------------------------------------------------------------------


class NanRow(LlamaForCausalLM):
    """A row without a real position is divided by zero; `spoils` says how far that goes."""

    spoils = "gradient"

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, attention_mask: Any = None, **rest: Any) -> Any:
        empty = attention_mask is not None and bool((attention_mask.sum(-1) == 0).any())
        if empty and self.spoils == "gradient":
            inputs_embeds = inputs_embeds / attention_mask.sum(-1)[:, None, None]
        if empty and self.spoils == "error":
            raise ValueError("a row without a token")
        given = {"input_ids": input_ids, "inputs_embeds": inputs_embeds, "attention_mask": attention_mask}
        out = super().forward(**given, **rest)
        if empty and self.spoils == "own":
            out.logits = torch.cat([out.logits[:1], out.logits[1:].detach() * float("nan")])
        return out


@pytest.mark.parametrize(
    ("spoils", "severities", "words"),
    [
        ("gradient", ("note", "warn"), "spoils NanRow's values or gradients for the whole batch"),
        ("error", ("note", "warn"), "NanRow raises ValueError on a batch with a row that is masked throughout"),
        ("own", ("note", "note"), "no finite logits; other rows and gradients are finite"),
    ],
)
def test_emb09_a_masked_row(spoils: str, severities: tuple[str, str], words: str) -> None:
    model = tiny(NanRow)
    model.spoils = spoils
    for changed, severity in zip(({}, OWN), severities, strict=True):
        out = used(model, **changed)
        assert out.severity("EMB09") == severity
        assert words in out.claim("EMB09")
