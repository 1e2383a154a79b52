"""What other rows do to a row (WIR08, WIR09), what its source does (WIR11, WIR16), and the probe as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from tests import rigs
from tests.wire_cases import KeysAndValues, LeftPadded, TinyWire, ask
from wirecheck.probes import wire_use_rows
from wirecheck.wires.contract import Batch


def gpt2() -> GPT2LMHeadModel:
    """Learned absolute positions; the width of the tiny Llama."""
    torch.manual_seed(3)
    config = GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=rigs.VOCABULARY, n_positions=256)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for p in model.parameters():
        p.data.normal_(0.0, 0.2)
    return model


# --- WIR08 -------------------------------------------------------------------------------------------------------


class ReadsPadding(TinyWire):
    """The encoder pads its bytes to the longest row and takes them for text."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        longest = max(len(source.encode()) for source in batch.sources)
        padded = tuple(source + "\0" * (longest - len(source.encode())) for source in batch.sources)
        return super().prefix(batch._replace(sources=padded))


class Unmasked(LeftPadded):
    """Padding on the left, and no mask."""

    masks = False


class ScoresPadding(TinyWire):
    """The labels of padded positions are not -100."""

    def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
        inputs = super().sequence(side, batch, prefix_BMD)
        return inputs | {"labels": inputs["labels"].masked_fill(inputs["attention_mask"] == 0, 0)}


def test_wir08_is_quiet_on_a_sound_wire() -> None:
    output, untold = ask(wire_use_rows.rows)
    assert (output.fired, untold) == (set(), "")
    assert len(output.of("WIR08")) == 1
    assert len(output.of("WIR09")) == 2


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (ReadsPadding, "beside a row of a longer source."),
        (Unmasked, "beside a row of a longer answer."),
        (ScoresPadding, "rests on other positions of a row than alone."),
    ],
)
def test_wir08_padding_that_counts(kind: type[TinyWire], words: str) -> None:
    output, untold = ask(wire_use_rows.rows, kind)
    assert {finding.severity for finding in output.of("WIR08")} == {"warn"}
    assert len(output.of("WIR08")) == 2, "both models are told of"
    assert all(finding.claim.endswith(words) for finding in output.of("WIR08"))
    assert "padding changes them first" in untold


def test_wir08_left_padding_without_positions_fires_where_positions_are_learned() -> None:
    output, _ = ask(wire_use_rows.rows, LeftPadded, rigs.bench(model_a=gpt2()))
    (finding,) = output.of("WIR08")
    assert finding.severity == "warn"
    assert finding.claim.startswith("What A says of a row changes beside a row of a longer answer")
    assert [each.claim[-2:] for each in output.of("WIR09")] == ["B."], "B's positions are relative: it is sound"


def test_wir08_left_padding_without_positions_is_sound_where_they_are_relative() -> None:
    output, untold = ask(wire_use_rows.rows, LeftPadded)
    assert (output.fired, untold) == (set(), "")


def test_wir08_rows_fed_one_by_one_cannot_be_told() -> None:
    class OneByOne(TinyWire):
        def loss(self, batch: Batch) -> Any:
            rows = [TinyWire.loss(self, Batch((s,), (a,))) for s, a in zip(*batch, strict=True)]
            return {side: torch.stack([row[side] for row in rows]).mean() for side in self.models}

    output, untold = ask(wire_use_rows.rows, OneByOne)
    assert output.findings == ()
    assert untold == "whether padding and batching change the loss: A is not handed row by row"


class Sorting(TinyWire):
    """Sources and answers alike are put in the order of the answers' lengths, the longest first."""

    by, sign = 1, -1

    def loss(self, batch: Batch) -> Any:
        order = sorted(range(len(batch.answers)), key=lambda row: self.sign * len(batch[self.by][row]))
        sources, answers = (tuple(texts[row] for row in order) for texts in batch)
        return super().loss(Batch(sources, answers))


class SortingBySource(Sorting):
    """By the sources' lengths, the shortest first, and every row is asked for the same token."""

    by, sign = 0, 1

    def answer_ids(self, side: str, answer: str) -> list[int]:
        return super().answer_ids(side, "same")[:1]


@pytest.mark.parametrize("kind", [Sorting, SortingBySource])
def test_wir08_rows_may_be_sorted(kind: type[TinyWire]) -> None:
    output, untold = ask(wire_use_rows.rows, kind)
    assert (output.fired, untold) == (set(), "")


@pytest.mark.parametrize(
    ("sorting", "kind", "words"),
    [
        (Sorting, ReadsPadding, "beside a row of a longer source."),
        (Sorting, Unmasked, "beside a row of a longer answer."),
        (SortingBySource, ReadsPadding, "beside a row of a longer source."),
    ],
)
def test_wir08_padding_that_counts_in_sorted_rows(sorting: type[TinyWire], kind: type[TinyWire], words: str) -> None:
    output, _ = ask(wire_use_rows.rows, type("SortingToo", (sorting, kind), {}))
    assert {finding.severity for finding in output.of("WIR08")} == {"warn"}
    assert all(finding.claim.endswith(words) for finding in output.of("WIR08"))


def test_wir08_sources_sorted_without_their_answers() -> None:
    class SourcesOnly(TinyWire):
        def loss(self, batch: Batch) -> Any:
            return super().loss(batch._replace(sources=tuple(sorted(batch.sources, key=len))))

    output, _ = ask(wire_use_rows.rows, SourcesOnly)
    assert {finding.severity for finding in output.of("WIR08")} == {"warn"}


def test_wir08_rows_are_numbered_from_one() -> None:
    output, _ = ask(wire_use_rows.rows, ScoresPadding)
    assert {str(f.evidence[0].source).split("positions of row ")[1][0] for f in output.of("WIR08")} == {"1"}


# --- WIR09 -------------------------------------------------------------------------------------------------------


def reduced(reduce: Callable[[Tensor, Tensor], Tensor]) -> type[TinyWire]:
    """A wire whose loss is `reduce(nll_BL, asked_BL)`."""

    class Reduced(TinyWire):
        def side_loss(self, side: str, inputs: dict[str, Tensor]) -> Tensor:
            labels_BS = inputs.pop("labels")[:, 1:]
            logits_BSV = self.models[side].model(**inputs, use_cache=False).logits[:, :-1]
            nll_BS = nn.functional.cross_entropy(logits_BSV.transpose(1, 2), labels_BS, reduction="none")
            return reduce(nll_BS, labels_BS != -100)

    return Reduced


@pytest.mark.parametrize(
    ("reduce", "words"),
    [
        (lambda nll, asked: nll.sum() / asked.sum(), "counts every token alike"),
        (lambda nll, asked: (nll.sum(1) / asked.sum(1)).mean(), "counts every row alike"),
        (lambda nll, asked: (nll.sum(1) / asked.sum(1)).sum(), "is the sum of its rows' losses"),
    ],
)
def test_wir09_a_mean_or_a_sum(reduce: Callable[[Tensor, Tensor], Tensor], words: str) -> None:
    output, untold = ask(wire_use_rows.rows, reduced(reduce))
    assert (output.fired, untold) == (set(), "")
    assert [f.claim for f in output.of("WIR09")] == [f"The loss of a batch {words} in {side}." for side in "AB"]


def test_wir09_padding_counted_in_the_mean() -> None:
    def over_everything(nll: Tensor, asked: Tensor) -> Tensor:
        longest = int(asked.sum(1).max())
        return nll.sum() / (len(nll) * longest)

    output, _ = ask(wire_use_rows.rows, reduced(over_everything))
    assert output.severity("WIR08") == "ok"
    claim = "The loss of a batch is neither a mean nor the sum of its rows' losses in {}."
    assert [f.claim for f in output.of("WIR09")] == [claim.format("A"), claim.format("B")]
    assert {f.severity for f in output.of("WIR09")} == {"warn"}


def test_wir09_calibration_over_the_batch() -> None:
    class Calibrated(TinyWire):
        def prefix(self, batch: Batch) -> dict[str, Tensor]:
            z_BMZ = self.net.latent(batch.sources)
            made = {side: project(z_BMZ) for side, project in self.net.project.items()}
            return {side: x * (self.rms[side] / x.square().mean().sqrt()) for side, x in made.items()}

    output, untold = ask(wire_use_rows.rows, Calibrated)
    assert {f.severity for f in output.of("WIR09")} == {"warn"}
    assert (
        output.of("WIR09")[0].claim
        == "What A says of a row changes with the other row of its batch, though it be as long."
    )
    assert {f.severity for f in output.of("WIR08")} == {"note"}, "it cannot be told from padding"
    assert untold == ""


def test_wir09_first_tokens_by_forwards_of_their_own() -> None:
    class FirstTokens(TinyWire):
        def loss(self, batch: Batch) -> Any:
            losses, prefixes = {}, self.prefix(batch)
            for side, prefix_BMD in prefixes.items():
                answers = [self.answer_ids(side, answer)[: 1 if "Porto" in answer else 2] for answer in batch.answers]
                context = torch.cat((prefix_BMD, self.embedded(side, [self.anchor_ids(side)] * len(answers))), dim=1)
                total, count = torch.zeros(()), 0
                for t in range(max(map(len, answers))):
                    before = self.embedded(side, [[*ids, 0][:t] for ids in answers]) if t else context[:, :0]
                    embeds = torch.cat((context, before), dim=1)
                    logp = self.models[side].model(inputs_embeds=embeds, use_cache=False).logits[:, -1].log_softmax(-1)
                    asked = [(row, ids[t]) for row, ids in enumerate(answers) if t < len(ids)]
                    total = total - sum(logp[row, token] for row, token in asked)
                    count += len(asked)
                losses[side] = total / count
            return losses

        def embedded(self, side: str, rows: list[list[int]]) -> Tensor:
            return self.models[side].model.get_input_embeddings()(torch.tensor(rows))

    output, untold = ask(wire_use_rows.rows, FirstTokens)
    assert (output.fired, untold) == (set(), "")
    assert "every token alike" in output.of("WIR09")[0].claim


def in_bfloat16(kind: type[TinyWire]) -> type[TinyWire]:
    """The same wire under an autocast of its own."""

    class Autocast(kind):  # type: ignore[misc, valid-type]
        def loss(self, batch: Batch) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return super().loss(batch)

    return Autocast


@pytest.mark.parametrize("kind", [TinyWire, LeftPadded, Sorting, reduced(lambda nll, _: nll.sum(1).sum())])
def test_wir09_a_wire_s_own_autocast(kind: type[TinyWire]) -> None:
    output, untold = ask(wire_use_rows.rows, in_bfloat16(kind))
    assert (output.fired, untold) == (set(), "")
    assert "rounding steps of bfloat16" in str(output.of("WIR08")[0].evidence[0].expected)


@pytest.mark.parametrize("kind", [ReadsPadding, Unmasked, ScoresPadding])
def test_wir08_padding_that_counts_under_autocast(kind: type[TinyWire]) -> None:
    output, _ = ask(wire_use_rows.rows, in_bfloat16(kind))
    assert {finding.severity for finding in output.of("WIR08")} == {"warn"}


def test_wir09_padding_counted_in_the_mean_under_autocast() -> None:
    kind = reduced(lambda nll, asked: nll.sum() / (len(nll) * int(asked.sum(1).max())))
    output, _ = ask(wire_use_rows.rows, in_bfloat16(kind))
    assert {finding.severity for finding in output.of("WIR09")} == {"warn"}


# --- WIR11 -------------------------------------------------------------------------------------------------------


class IgnoresSource(TinyWire):
    """Every text is encoded as the same one."""

    def prefix(self, batch: Batch) -> dict[str, Tensor]:
        return super().prefix(batch._replace(sources=("x",) * len(batch.sources)))


def test_wir11_latent_that_ignores_its_source() -> None:
    output, untold = ask(wire_use_rows.source, IgnoresSource)
    assert output.severity("WIR11") == "block"
    assert (
        output.claim("WIR11") == "Two different sources give the same soft tokens of A and the same soft tokens of B."
    )
    assert "WIR11" in untold


def test_wir11_one_model_that_is_not_told() -> None:
    class OnlyA(IgnoresSource):
        def prefix(self, batch: Batch) -> dict[str, Tensor]:
            return super().prefix(batch) | {"a": TinyWire.prefix(self, batch)["a"]}

    output, _ = ask(wire_use_rows.source, OnlyA)
    assert output.claim("WIR11") == "Two different sources give the same soft tokens of B."


def test_wir11_source_told_as_text_only() -> None:
    class TellsText(IgnoresSource):
        """The source stands in the anchor, and the soft tokens say nothing of it."""

        def sequence(self, side: str, batch: Batch, prefix_BMD: Tensor) -> dict[str, Tensor]:
            inputs = super().sequence(side, batch, prefix_BMD)
            ids = torch.tensor([list(source.encode()[:8]) for source in batch.sources])
            inputs["inputs_embeds"][:, 5:8] = self.models[side].model.get_input_embeddings()(ids)[:, :3]
            return inputs

    output, _ = ask(wire_use_rows.source, TellsText)
    assert output.severity("WIR11") == "block"


@pytest.mark.parametrize("kind", [TinyWire, KeysAndValues])
def test_wir11_sound(kind: type[TinyWire]) -> None:
    output, untold = ask(wire_use_rows.source, kind)
    assert output.severity("WIR11") == "ok"
    assert untold == ""


def test_wir11_without_soft_tokens_the_answer_is_looked_at() -> None:
    class Mute(KeysAndValues):
        def loss(self, batch: Batch) -> Any:
            return super().loss(batch._replace(sources=("x",) * len(batch.sources)))

    output, _ = ask(wire_use_rows.source, Mute)
    assert output.severity("WIR11") == "block"
    assert "log-probabilities of A's answer" in output.claim("WIR11")
