"""Ids of the other model's tokenizer are told by what they spell; a model's own never are."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests import tiny_wires
from tests.tiny_wires import TinyWire
from wirecheck.wires.contract import Batch, WiredModel
from wirecheck.wires.readings import readings
from wirecheck.wires.samples import SAMPLES


def backward_bytes() -> PreTrainedTokenizerFast:
    """One token per byte, its ids in the opposite order to those of `rigs.tokenizer`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), reverse=True)
    core = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


def unlike() -> tuple[WiredModel, WiredModel]:
    """The tiny pair, B with a tokenizer unlike A's."""
    a, b = tiny_wires.models()
    other = WiredModel(side="b", name="b", model=b.model, tokenizer=backward_bytes(), num_layers=2, hidden_size=64)
    return a, other


class Sender(TinyWire):
    """A reads the source too, under no_grad, as a resampler has it."""

    reader = "a"

    def loss(self, batch: Batch) -> Any:
        tokenizer = self.models[self.reader].tokenizer
        with torch.no_grad():
            for source in batch.sources:
                self.models["a"].model.model(input_ids=torch.tensor([tokenizer.encode(source)]))
        return super().loss(batch)


class Confused(Sender):
    """The source as B's tokenizer has it, given to A."""

    reader = "b"


def test_ids_of_the_models_own_tokenizer_are_told_as_such():
    wire, pair = tiny_wires.tiny(Sender, pair=unlike())
    found = readings(wire, pair, SAMPLES)
    assert found["a"].num_told == 6
    assert found["b"].num_told == 3
    assert found["a"].num_misread == found["b"].num_misread == 0


def test_ids_of_the_other_models_tokenizer_are_misread():
    wire, pair = tiny_wires.tiny(Confused, pair=unlike())
    found = readings(wire, pair, SAMPLES)
    assert (found["a"].num_misread, found["b"].num_misread) == (3, 0)
    assert found["a"].example


def test_one_tokenizer_for_both_is_nobodys_mistake():
    wire, pair = tiny_wires.tiny(Confused)
    assert [found.num_misread for found in readings(wire, pair, SAMPLES).values()] == [0, 0]


def test_ids_that_spell_nothing_of_the_batch_tell_nothing():
    class Silent(TinyWire):
        def answer_ids(self, side: str, answer: str) -> list[int]:
            return [3, 4, 5]

    wire, pair = tiny_wires.tiny(Silent, pair=unlike())
    assert [found.num_told for found in readings(wire, pair, SAMPLES).values()] == [0, 0]


def test_a_loss_that_differentiates_inside_itself_is_read():
    class Inner(Sender):
        def loss(self, batch: Batch) -> Any:
            terms = super().loss(batch)
            (grad,) = torch.autograd.grad(terms["a"], self.net.embed.weight, retain_graph=True)
            return terms | {"penalty": grad.square().sum().detach() + 0 * terms["a"]}

    wire, pair = tiny_wires.tiny(Inner, pair=unlike())
    assert readings(wire, pair, SAMPLES)["a"].num_misread == 0
