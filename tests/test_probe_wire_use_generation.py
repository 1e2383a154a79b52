"""Generation from the prefix, or from keys and values, by `generate` and by the wire's own loop (WIR12)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests import rigs
from tests.wire_cases import Decoding, KeysAndValues, LeftPadded, TinyWire, ask, case_of
from wirecheck import zoo
from wirecheck.probes.wire_use_words import generates
from wirecheck.schema import Finding
from wirecheck.wires.contract import Batch
from wirecheck.wires.failure import StepFailed


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


class KeysAndValuesLoop(KeysAndValues):
    """With a greedy, cached loop of its own, from the keys and values of training."""

    def first(self, side: str, batch: Batch) -> tuple[Tensor, Any, Tensor]:
        """logits_BSV after the anchor, the cache, mask_BS."""
        ids_BA = torch.tensor([self.anchor_ids(side)] * len(batch.sources))
        mask_BS = torch.ones(len(ids_BA), self.net.M + ids_BA.shape[1], dtype=torch.long)
        cache = self.cache(side, batch)
        output = self.models[side].model(
            input_ids=ids_BA, attention_mask=mask_BS, past_key_values=cache, use_cache=True
        )
        return output.logits, output.past_key_values, mask_BS

    def next_ids(self, logits_BSV: Tensor, _step: int) -> Tensor:
        """The likeliest of each row."""
        return logits_BSV[:, -1].argmax(dim=-1)

    def generate(self, batch: Batch, max_new_tokens: int) -> dict[str, list[list[int]]]:
        made = {}
        for side, one in self.models.items():
            logits_BSV, cache, mask_BS = self.first(side, batch)
            columns = [self.next_ids(logits_BSV, 0)]
            for step in range(1, max_new_tokens):
                mask_BS = torch.cat((mask_BS, mask_BS.new_ones(len(mask_BS), 1)), dim=1)
                fed = {"input_ids": columns[-1][:, None], "past_key_values": cache}
                logits_BSV = one.model(attention_mask=mask_BS, use_cache=True, **fed).logits
                columns.append(self.next_ids(logits_BSV, step))
            made[side] = torch.stack(columns, dim=1).tolist()
        return made


class GarbageFollows(KeysAndValuesLoop):
    """Sound in its first token alone."""

    def next_ids(self, logits_BSV: Tensor, step: int) -> Tensor:
        return super().next_ids(logits_BSV, step) if step == 0 else torch.full_like(logits_BSV[:, -1, 0], 7).long()


class OtherFirst(KeysAndValuesLoop):
    """The id beside the first token, and on from there."""

    def next_ids(self, logits_BSV: Tensor, step: int) -> Tensor:
        return (super().next_ids(logits_BSV, step) + (step == 0)) % rigs.VOCABULARY


def test_wir12_a_loop_from_keys_and_values_is_judged_to_its_end() -> None:
    output, untold = ask(generates, KeysAndValuesLoop)
    assert untold == ""
    assert [f.claim for f in output.of("WIR12")] == [
        "From the prefix of A and B, the wire's own loop gives the tokens that full forwards give."
    ]


@pytest.mark.parametrize(("kind", "words"), [(GarbageFollows, "Token 2 that"), (OtherFirst, "The first token that")])
def test_wir12_a_loop_from_keys_and_values_that_differs(kind: type[TinyWire], words: str) -> None:
    output, untold = ask(generates, kind)
    assert [f.severity for f in output.of("WIR12")] == ["warn", "warn"]
    assert all(f.claim.startswith(words) for f in output.of("WIR12"))
    assert untold == ""


class Apart(GarbageFollows):
    """Positions counted as if nothing stood before: full forwards count them from behind the cache."""

    def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
        inputs = super().sequence(side, batch, prefix_BMD)
        numbers = torch.arange(inputs["inputs_embeds"].shape[1]) * 2
        return inputs | {"position_ids": numbers.expand(len(prefix_BMD), -1)}


def test_wir12_a_loop_from_keys_and_values_that_cannot_be_followed_is_an_open_question() -> None:
    output, untold = ask(generates, Apart)
    assert "ok" not in [f.severity for f in output.of("WIR12")]
    assert untold.count("with the keys and values it is handed, its context does not bring it back") == 2


@pytest.mark.parametrize(
    ("made", "words"), [({"B": [[7] * 4] * 3}, "'B' named"), ({}, "no model is named"), ({"b": [[7]]}, "1 rows for B")]
)
def test_wir01_a_loop_that_names_no_model_or_gives_too_few_rows(made: Any, words: str) -> None:
    class Naming(TinyWire):
        def generate(self, _batch: Batch, _max_new_tokens: int) -> Any:
            return made

    with pytest.raises(StepFailed, match=words) as why:
        ask(generates, Naming)
    assert why.value.part == "generate"


class Casting(Decoding):
    """Its loss and its loop run under an autocast of its own."""

    def loss(self, batch: Batch) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().loss(batch)

    def generate(self, batch: Batch, max_new_tokens: int) -> dict[str, list[list[int]]]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().generate(batch, max_new_tokens)


class CastingOtherFirst(Casting):
    """The id beside each token."""

    def generate(self, batch: Batch, max_new_tokens: int) -> dict[str, list[list[int]]]:
        made = super().generate(batch, max_new_tokens)
        return {side: [[(i + 1) % rigs.VOCABULARY for i in row] for row in rows] for side, rows in made.items()}


def test_wir12_under_an_autocast_of_the_wire() -> None:
    output, untold = ask(generates, Casting)
    assert (output.fired, untold, len(output.of("WIR12"))) == (set(), "", 2)
    assert "rounding steps of bfloat16, the wire's autocast" in str(output.of("WIR12")[0].evidence[0].expected)
    output, _ = ask(generates, CastingOtherFirst)
    assert [f.severity for f in output.of("WIR12")] == ["ok", "warn", "warn"]


def test_wir12_models_decode_in_eval_mode_without_checkpointing_and_are_as_they_were_afterwards() -> None:
    modes: list[set[tuple[bool, bool]]] = []

    class Checkpointing(Decoding):
        """Switches it on as transformers documents it."""

        def freeze(self) -> None:
            super().freeze()
            for one in self.models.values():
                with zoo.quiet():
                    one.model.gradient_checkpointing_enable({"use_reentrant": False})
                one.model.train()

        def modes(self) -> set[tuple[bool, bool]]:
            modules = [module for one in self.models.values() for module in one.model.modules()]
            return {
                (one.training, one.gradient_checkpointing) for one in modules if hasattr(one, "gradient_checkpointing")
            }

        def generate(self, batch: Batch, max_new_tokens: int) -> dict[str, list[list[int]]]:
            modes.append(self.modes())
            return super().generate(batch, max_new_tokens)

    with case_of(Checkpointing) as case:
        found = [item for item in generates(case) if isinstance(item, Finding)]
        modes.append(case.steady.wire.modes())
    assert modes == [{(False, False)}, {(True, True)}]
    assert [f.severity for f in found] == ["ok", "ok"]


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
