"""Generation from the prefix (WIR12), the text before the answer (WIR14), and the boundary of both (WIR15)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests import factories, rigs
from tests.wire_cases import Decoding, KeysAndValues, LeftPadded, TinyWire, ask
from wirecheck.probes.wire_use_words import anchors, generates
from wirecheck.schema import Fact, Level
from wirecheck.wires.anchors import Lead, closed_by, joint, num_bos
from wirecheck.wires.contract import Batch

# --- WIR12 -------------------------------------------------------------------------------------------------------


def test_wir12_without_a_loop_of_its_own() -> None:
    output, untold = ask(generates)
    assert (output.fired, untold) == (set(), "")
    assert [f.claim for f in output.of("WIR12")] == [
        "From the prefix of A and B, `model.generate` gives the tokens that full forwards give."
    ]


class Padded(Decoding, LeftPadded):
    """Trained left-padded, decoded unpadded."""


@pytest.mark.parametrize("kind", [Decoding, Padded])
def test_wir12_sound_loops(kind: type[TinyWire]) -> None:
    output, untold = ask(generates, kind)
    assert (output.fired, untold) == (set(), "")
    assert len(output.of("WIR12")) == 2


class ShortMask(Decoding):
    """A mask of length 1 at each cached step."""

    def step(self, side: str, mask_BS: Tensor, **fed: Any) -> Any:
        return super().step(side, mask_BS[:, -1:] if "input_ids" in fed else mask_BS, **fed)


class ForgetsCache(Decoding):
    """Each cached step begins anew."""

    def step(self, side: str, mask_BS: Tensor, **fed: Any) -> Any:
        return (
            super().step(side, mask_BS[:, -1:], input_ids=fed["input_ids"])
            if "input_ids" in fed
            else super().step(side, mask_BS, **fed)
        )


class OtherAnchor(Decoding):
    """Decodes from the prefix without the anchor that training puts behind it."""

    def context(self, side: str, batch: Batch) -> Tensor:
        return self.prefix(batch)[side]


class StopsEarly(Decoding):
    """Gives up after two tokens."""

    def generate(self, batch: Batch, max_new_tokens: int) -> dict[str, list[list[int]]]:
        return super().generate(batch, min(2, max_new_tokens))


class Unmasked(Decoding):
    """`model.generate` on a left-padded batch of contexts, without a mask."""

    def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
        inputs, texts = super().sequence(side, batch, prefix_BMD), self.texts(side, batch)
        embeds = inputs["inputs_embeds"]
        before = torch.cat((texts, embeds), dim=1)
        mask = torch.cat((self.text_mask(batch), inputs["attention_mask"]), dim=1)
        labels = torch.cat((torch.full(texts.shape[:2], -100), inputs["labels"]), dim=1)
        return {"inputs_embeds": before, "attention_mask": mask, "labels": labels}

    def texts(self, side: str, batch: Batch) -> Tensor:
        """The beginning of each source as text, left-padded: rows of unequal lengths."""
        rows = ((s, self.num_texts(s)) for s in batch.sources)
        ids = torch.tensor([[0] * (6 - n) + list(s.encode()[:n]) for s, n in rows])
        return self.models[side].model.get_input_embeddings()(ids)

    def text_mask(self, batch: Batch) -> Tensor:
        """1 on a byte of the source."""
        return torch.tensor([[0] * (6 - n) + [1] * n for n in map(self.num_texts, batch.sources)])

    def num_texts(self, source: str) -> int:
        """3 to 5 bytes of it."""
        return 3 + len(source) % 3

    masked = False

    def generate(self, batch: Batch, max_new_tokens: int) -> dict[str, list[list[int]]]:
        made = {}
        for side, one in self.models.items():
            embeds = torch.cat((self.texts(side, batch), self.context(side, batch)), dim=1)
            mask = torch.cat((self.text_mask(batch), torch.ones(len(embeds), embeds.shape[1] - 6).long()), dim=1)
            given = {"attention_mask": mask} if self.masked else {}
            new = one.model.generate(inputs_embeds=embeds, max_new_tokens=max_new_tokens, do_sample=False, **given)
            made[side] = new.tolist()
        return made


class Masked(Unmasked):
    """The same with the mask."""

    masked = True


@pytest.mark.parametrize("kind", [ShortMask, ForgetsCache, OtherAnchor, StopsEarly, Unmasked])
def test_wir12_loops_that_differ(kind: type[TinyWire]) -> None:
    output, _ = ask(generates, kind)
    assert [f.severity for f in output.of("WIR12")] == ["ok", "warn", "warn"]


def test_wir12_mask_over_padding_is_sound() -> None:
    output, untold = ask(generates, Masked)
    assert (output.fired, untold) == (set(), "")


def test_wir12_says_what_differs() -> None:
    early, _ = ask(generates, StopsEarly)
    assert (
        early.of("WIR12")[1].claim
        == "The tokens that the wire's own loop gives for A end early, and not where A stops."
    )
    other, _ = ask(generates, OtherAnchor)
    assert "says something else" in other.of("WIR12")[1].claim or "first token" in other.of("WIR12")[1].claim


def test_wir12_keys_and_values_are_said_to_be_beyond_it() -> None:
    output, untold = ask(generates, KeysAndValues)
    assert [f.severity for f in output.of("WIR12")] == ["note", "note"]
    assert untold == ""


@pytest.mark.parametrize(("shift", "severity"), [(0, "note"), (1, "warn")])
def test_wir12_first_token_from_keys_and_values(shift: int, severity: str) -> None:
    class Begins(KeysAndValues):
        """One new token a row: what the model says after the anchor, or the id beside it."""

        def generate(self, batch: Batch, _max_new_tokens: int) -> dict[str, list[list[int]]]:
            made = {}
            for side in self.models:
                said = self.said_after_anchor(side, batch)
                made[side] = [[(int(logits_V.argmax()) + shift) % rigs.VOCABULARY] for logits_V in said]
            return made

        def said_after_anchor(self, side: str, batch: Batch) -> Tensor:
            seen: list[Tensor] = []
            model = self.models[side].model
            handle = model.register_forward_hook(lambda _m, _a, output: seen.append(output.logits))
            self.loss(batch)
            handle.remove()
            return seen[0][:, len(self.anchor_ids(side)) - 1]

    output, untold = ask(generates, Begins)
    assert [f.severity for f in output.of("WIR12")] == [severity, severity]
    assert untold == ""


def test_wir12_positions_of_its_own_cannot_be_told() -> None:
    class Offset(TinyWire):
        """Odd positions only: another distance between tokens than generation gives them."""

        def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
            inputs = super().sequence(side, batch, prefix_BMD)
            numbers = 2 * torch.arange(inputs["inputs_embeds"].shape[1])
            return inputs | {"position_ids": numbers.expand(len(prefix_BMD), -1)}

    output, untold = ask(generates, Offset)
    assert output.findings == ()
    assert untold.startswith("generation of A: its context by itself does not bring it back")


# --- WIR14 -------------------------------------------------------------------------------------------------------


class TwoBos(TinyWire):
    """An anchor encoded with the tokenizer's defaults, with a BOS put before it."""

    def anchor_ids(self, side: str) -> list[int]:
        ids = super().anchor_ids(side)
        return [rigs.BOS, *ids] if side == "a" else ids


class NoBos(TinyWire):
    """No BOS where the model has one."""

    def anchor_ids(self, side: str) -> list[int]:
        return [i for i in super().anchor_ids(side) if i != rigs.BOS]


class ForeignBos(TinyWire):
    """A BOS where the tokenizer puts none."""

    def anchor_ids(self, side: str) -> list[int]:
        return super().anchor_ids(side) if side == "a" else [rigs.BOS, *super().anchor_ids(side)]


class ClosesTurn(TinyWire):
    """The anchor ends with the token that ends a turn, and a line break."""

    def anchor_ids(self, side: str) -> list[int]:
        return [
            *super().anchor_ids(side),
            rigs.EOS,
            *self.models[side].tokenizer.encode("\n", add_special_tokens=False),
        ]


class BosFirst(TinyWire):
    """[BOS][prefix][anchor]."""

    def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
        inputs = super().sequence(side, batch, prefix_BMD)
        if side == "a":
            M = prefix_BMD.shape[1]
            order = [M, *range(M), *range(M + 1, inputs["inputs_embeds"].shape[1])]
            inputs = {name: tensor[:, order] for name, tensor in inputs.items()}
        return inputs


@pytest.mark.parametrize("kind", [TinyWire, BosFirst, KeysAndValues, LeftPadded])
def test_wir14_sound(kind: type[TinyWire]) -> None:
    output, untold = ask(anchors, kind)
    assert (output.fired, untold) == (set(), "")
    assert [f.claim for f in output.of("WIR14")] == [
        "Before its answer A is handed one BOS, and no turn is ended there.",
        "Before its answer B is handed no BOS, and no turn is ended there.",
    ]


@pytest.mark.parametrize(
    ("kind", "claim"),
    [
        (TwoBos, "Before its answer A is handed 2 BOS tokens; its tokenizer puts one before plain text."),
        (NoBos, "Before its answer A is handed no BOS; its tokenizer puts one before plain text."),
        (ForeignBos, "Before its answer B is handed one BOS; its tokenizer puts none before plain text."),
        (ClosesTurn, "The anchor of A ends the turn, with </s> (257), before the answer begins."),
    ],
)
def test_wir14_malformed(kind: type[TinyWire], claim: str) -> None:
    output, _ = ask(anchors, kind)
    assert claim in [f.claim for f in output.of("WIR14") if f.severity == "warn"]


def fact(side: Any, key: str, value: Any) -> Fact:
    """Of one side, as an earlier probe establishes it."""
    return Fact(key=key, subject=side, value=value, level=Level.INSPECTED, source="apply_chat_template")


def test_wir14_a_bos_that_the_template_writes_is_sound() -> None:
    bench = rigs.bench()
    bench.facts = (fact("b", "adds_bos_in_template", value=True),)
    for kind in (ForeignBos, TinyWire):
        assert ask(anchors, kind, bench)[0].fired == set()


def test_wir14_the_template_s_end_of_turn_ends_it_too() -> None:
    class ClosesByX(TinyWire):
        anchor = "Answer:x"

    bench = rigs.bench()
    assert ask(anchors, ClosesByX, bench)[0].fired == set()
    bench.facts = (fact("a", "turn_end", "x"),)
    output, _ = ask(anchors, ClosesByX, bench)
    assert [f.claim[:23] for f in output.of("WIR14") if f.severity == "warn"] == ["The anchor of A ends th"]


def test_wir14_no_single_tokens_asked_for_cannot_be_told() -> None:
    class Soft(TinyWire):
        """Every position is to be like the uniform distribution."""

        def side_loss(self, side: str, inputs: dict[str, Tensor]) -> Tensor:
            inputs.pop("labels")
            return -self.models[side].model(**inputs, use_cache=False).logits[:, -3:].log_softmax(-1).mean()

    output, untold = ask(anchors, Soft)
    assert output.findings == ()
    assert "no single tokens are asked for" in untold


def test_wir14_one_token_for_bos_and_end() -> None:
    tok, both = rigs.tokenizer(bos=False), frozenset({rigs.BOS})
    opened = Lead(before=(-1, -1, rigs.BOS), answer=(5,))
    assert num_bos(opened, rigs.BOS, both) == 1
    assert closed_by(tok, opened, both) is None
    assert closed_by(tok, Lead(before=(-1, rigs.BOS, 40, rigs.BOS), answer=(5,)), both) == rigs.BOS
    assert closed_by(tok, Lead(before=(40, -1, rigs.BOS), answer=(5,)), both) == rigs.BOS


# --- WIR15 -------------------------------------------------------------------------------------------------------


def merging() -> PreTrainedTokenizerFast:
    """One token per byte, and ` i`, ` in`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {char: index for index, char in enumerate(alphabet)} | {"Ġi": 256, "Ġin": 257}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[("Ġ", "i"), ("Ġi", "n")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


class TrailingSpace(TinyWire):
    """`Answer: ` and then the answer."""

    anchor = "Answer: "

    def answer_ids(self, side: str, answer: str) -> list[int]:
        tok = self.models[side].tokenizer
        return [*tok.encode(answer, add_special_tokens=False), tok.eos_token_id]


@pytest.mark.parametrize(("kind", "severity"), [(TinyWire, "ok"), (TrailingSpace, "warn")])
def test_wir15_trailing_space(kind: type[TinyWire], severity: str) -> None:
    bench = rigs.bench()
    bench.b.__dict__["tokenizer"] = merging()
    output, untold = ask(anchors, kind, bench)
    a, b = output.of("WIR15")
    assert (a.severity, b.severity, untold) == ("ok", severity, ""), "bytes alone never merge"
    if severity == "warn":
        assert b.claim == "Where the answer begins, 1 of 3 rows of B have other tokens than their text has."
        assert (b.evidence[0].observed, b.evidence[0].expected) == ("Ġ i n", "Ġin")


def test_wir15_no_text_before_the_answer() -> None:
    class Bare(TinyWire):
        anchor = ""

    output, untold = ask(anchors, Bare)
    assert [f.severity for f in output.of("WIR15")] == ["ok", "ok"]
    assert output.of("WIR15")[1].claim == "No text stands before B's answer that could merge with it."
    assert untold == ""


SEEDS = (
    "meta-llama__Llama-3.1-8B-Instruct",
    "Qwen__Qwen2.5-7B-Instruct",
    "mistralai__Mistral-7B-Instruct-v0.3",
)


@factories.needs_assets
@pytest.mark.parametrize("name", SEEDS)
def test_wir15_on_recorded_tokenizers(name: str, tmp_path: Path) -> None:
    tok = AutoTokenizer.from_pretrained(factories.seed_snapshot(name, tmp_path), local_files_only=True)
    ends = frozenset({tok.eos_token_id})

    def lead(anchor: str, answer: str) -> Lead:
        before, after = (tok.encode(text, add_special_tokens=False) for text in (anchor, answer))
        return Lead(before=(-1, *before), answer=(*after, tok.eos_token_id))

    sound = joint(tok, lead("Answer:", " in Porto"), ends)
    assert sound is not None
    assert sound.is_same
    trailing = joint(tok, lead("Answer: ", "in Porto"), ends)
    assert trailing is not None
    assert trailing.is_same == (name == SEEDS[2])  # it gives the answer a space of its own: two stand there, as text


@factories.needs_assets
@pytest.mark.parametrize("name", SEEDS)
def test_wir15_and_wir14_on_a_template(name: str, tmp_path: Path) -> None:
    tok = AutoTokenizer.from_pretrained(factories.seed_snapshot(name, tmp_path), local_files_only=True)
    turns = [{"role": "user", "content": "Where is the bakery?"}]
    ends = frozenset(tok.convert_tokens_to_ids(t) for t in ("<|eot_id|>", "<|im_end|>", "</s>") if t in tok.get_vocab())

    def ids(**asked: Any) -> tuple[int, ...]:
        return tuple(tok.apply_chat_template(turns, tokenize=True, return_dict=False, **asked))

    answer = (*tok.encode("in Porto", add_special_tokens=False), tok.eos_token_id)
    prompted = Lead(before=(-1, *ids(add_generation_prompt=True)), answer=answer)
    assert closed_by(tok, prompted, ends) is None
    boundary = joint(tok, prompted, ends)
    assert boundary is None or boundary.is_same
    if name != SEEDS[2]:  # Mistral's has no generation prompt: [/INST] ends the user's turn
        assert closed_by(tok, Lead(before=(-1, *ids(add_generation_prompt=False)), answer=answer), ends) is not None
