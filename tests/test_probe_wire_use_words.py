"""The text before the answer (WIR14), and the boundary of both (WIR15)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests import factories, rigs
from tests.wire_cases import KeysAndValues, LeftPadded, TinyWire, ask
from wirecheck.probes.wire_use_words import anchors
from wirecheck.schema import Fact, Level
from wirecheck.wires.anchors import Lead, closed_by, joint, num_bos
from wirecheck.wires.contract import Batch

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


class ForeignTwoBos(ForeignBos):
    """Two of them."""

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
        (ForeignTwoBos, "Before its answer B is handed 2 BOS tokens; its tokenizer puts none before plain text."),
        (ClosesTurn, "The anchor of A ends the turn, with </s> (257), before the answer begins."),
    ],
)
def test_wir14_malformed(kind: type[TinyWire], claim: str) -> None:
    output, _ = ask(anchors, kind)
    assert claim in [f.claim for f in output.of("WIR14") if f.severity == "warn"]


def test_wir14_one_bos_that_the_tokenizer_does_not_put_is_a_note() -> None:
    output, untold = ask(anchors, ForeignBos)
    assert untold == ""
    assert [(f.severity, f.claim) for f in output.of("WIR14")][1] == (
        "note",
        "Before its answer B is handed one BOS, which its tokenizer does not put before plain text.",
    )


def fact(side: Any, key: str, value: Any) -> Fact:
    """Of one side, as an earlier probe establishes it."""
    return Fact(key=key, subject=side, value=value, level=Level.INSPECTED, source="apply_chat_template")


def test_wir14_a_bos_that_the_template_writes_is_sound() -> None:
    bench = rigs.bench()
    bench.facts = (fact("b", "adds_bos_in_template", value=True),)
    for kind in (ForeignBos, TinyWire):
        assert [f.severity for f in ask(anchors, kind, bench)[0].of("WIR14")] == ["ok", "ok"]


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
