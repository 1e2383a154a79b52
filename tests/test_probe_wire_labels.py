"""WIR06: the loss asks for the next token, shifted once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests import rigs, tiny_wires
from tests.tiny_wires import TinyWire
from tests.wire_checks import GROUND, findings, fired, own
from wirecheck.probe_run import run_one
from wirecheck.probes.wire import WIRE_TWIN
from wirecheck.schema import Level, Severity, Skipped, TrainSpec

IGNORED = -100


class Relabelled(TinyWire):
    """The labels changed by `relabel`, the loss as the model takes it."""

    def relabel(self, labels, inputs):
        return labels

    def side_loss(self, side, inputs):
        return super().side_loss(side, inputs | {"labels": self.relabel(inputs["labels"], inputs)})


def shifted(labels):
    return torch.cat((labels[:, 1:], labels.new_full((labels.shape[0], 1), IGNORED)), dim=1)


class Twice(Relabelled):
    def relabel(self, labels, inputs):
        return shifted(labels)


class TwiceRightBehindThePrefix(Twice):
    anchor = ""


class Never(TinyWire):
    """The loss taken by hand, and nothing shifted at all."""

    def side_loss(self, side, inputs):
        labels = inputs.pop("labels")
        logits = self.models[side].model(**inputs, use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


class TwiceByHand(TinyWire):
    """`labels=` shifted for the wire's own loss, on logits that are shifted again; chunk after chunk, smoothed."""

    def side_loss(self, side, inputs):
        labels = shifted(inputs.pop("labels"))
        logits = self.models[side].model(**inputs, use_cache=False).logits[:, :-1].float()
        pairs = zip(logits.flatten(0, 1).split(16), labels[:, 1:].flatten().split(16), strict=True)
        return sum(functional.cross_entropy(x, y, reduction="sum", label_smoothing=0.1) for x, y in pairs) / 45


class PaddingLabelled(Relabelled):
    def relabel(self, labels, inputs):
        return labels.masked_fill(inputs["attention_mask"] == 0, 0)


class PadIsEos(PaddingLabelled):
    def relabel(self, labels, inputs):
        return labels.masked_fill(inputs["attention_mask"] == 0, rigs.EOS)


class UnmaskedPadding(TinyWire):
    """Padded with the stop token, as if it were text: neither attention nor labels know of it."""

    def sequence(self, side, batch, prefix_BMD):
        inputs = super().sequence(side, batch, prefix_BMD)
        pad = inputs["attention_mask"] == 0
        end = self.models[side].model.get_input_embeddings()(torch.tensor(rigs.EOS))
        inputs["inputs_embeds"] = torch.where(pad[..., None], end, inputs["inputs_embeds"])
        inputs["labels"] = torch.where(pad, rigs.EOS, inputs["labels"])
        del inputs["attention_mask"]
        return inputs


class PrefixLabelled(Relabelled):
    def relabel(self, labels, inputs):
        return torch.cat((torch.full_like(labels[:, :4], 7), labels[:, 4:]), dim=1)


class Scrambled(Relabelled):
    def relabel(self, labels, inputs):
        return torch.where(labels == IGNORED, labels, (labels + 1) % 256)


PLANTED = [
    (Twice, "asks {} for the token after the next: its labels are shifted twice."),
    (TwiceRightBehindThePrefix, "asks {} for the token after the next: its labels are shifted twice."),
    (TwiceByHand, "asks {} for the token after the next: its labels are shifted twice."),
    (Never, "asks {} for the token it was just handed: nothing is shifted."),
    (PaddingLabelled, "are padding: masked positions, or stop tokens after the answer's own."),
    (PadIsEos, "are padding: masked positions, or stop tokens after the answer's own."),
    (UnmaskedPadding, "are padding: masked positions, or stop tokens after the answer's own."),
    (PrefixLabelled, "stand where a soft token is handed next: labels lie on the prefix."),
    (Scrambled, "45 of the 45 tokens that the loss asks of {} are not the token handed next."),
]


@pytest.mark.parametrize(("kind", "words"), PLANTED)
def test_wir06_labels_misaligned_on_llama_and_on_qwen(kind, words):
    found = findings(kind)
    assert fired(found) == {"WIR06"}
    for letter, finding in zip("AB", found["WIR06"], strict=True):
        assert finding.severity is Severity.BLOCK
        assert finding.claim.endswith(words.format(letter))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("kind", "severity"), [(Twice, Severity.BLOCK), (TinyWire, Severity.OK)])
def test_wir06_is_told_in_narrow_dtypes(dtype, kind, severity):
    found = findings(kind, tiny_wires.models(rigs.llama().to(dtype), rigs.qwen().to(dtype)))
    assert {finding.severity for finding in found["WIR06"]} == {severity}


def test_wir06_an_example_is_in_the_evidence():
    evidence = findings(Scrambled)["WIR06"][0].evidence
    assert (evidence[0].observed, evidence[0].expected) == (0, 45)
    assert evidence[1].source.endswith("the first of the others, in row 1 at position 11")
    assert (evidence[1].observed, evidence[1].expected) == ("asked for 221 '\\x7f'", "handed next: 220 ' '")


def test_wir06_the_loss_stands_beside_an_independent_one_and_one_shift_more():
    for finding in findings()["WIR06"]:
        _, loss, mean, early = finding.evidence
        assert loss.observed == loss.expected == mean.observed != early.observed
    twice, once = findings(Twice)["WIR06"][0], findings()["WIR06"][0]
    assert twice.evidence[2].observed != once.evidence[1].observed


class WithPenalty(TinyWire):
    def loss(self, batch):
        terms = super().loss(batch)
        return terms | {"a": terms["a"] + self.net.embed.weight.square().mean()}


def test_wir06_not_on_a_loss_that_is_more_than_cross_entropy():
    found = findings(WithPenalty)
    assert fired(found) == set()
    assert "which is other or more than cross-entropy" in found["WIR06"][0].evidence[1].source


# --- sound ways to take the loss


class Smoothed(TwiceByHand):
    """By hand, in chunks, smoothed, shifted once."""

    def side_loss(self, side, inputs):
        unshifted = torch.cat((torch.full_like(inputs["labels"][:, :1], IGNORED), inputs["labels"][:, :-1]), dim=1)
        return super().side_loss(side, inputs | {"labels": unshifted})


class FirstToken(TinyWire):
    """Prefix and anchor alone; the first token of the answer is asked of the last position."""

    cut = 1

    def side_loss(self, side, inputs):
        labels = inputs.pop("labels")
        end = int((labels >= 0).any(dim=0).nonzero()[0])
        asked = labels[:, end + self.cut - 1]
        inputs = {key: value[:, :end] for key, value in inputs.items()}
        return functional.cross_entropy(self.models[side].model(**inputs, use_cache=False).logits[:, -1], asked)


class FirstTokens(FirstToken):
    """The first four tokens of the answer, each from a forward of its own."""

    def side_loss(self, side, inputs):
        labels, model = inputs.pop("labels"), self.models[side].model
        first, total = int((labels >= 0).any(dim=0).nonzero()[0]), 0
        for k in range(4):
            part = {key: value[:, : first + k] for key, value in inputs.items()}
            total = total + functional.cross_entropy(model(**part, use_cache=False).logits[:, -1], labels[:, first + k])
        return total / 4


class RowByRow(TinyWire):
    """Each row by itself, as a micro-batch."""

    def loss(self, batch):
        rows = [type(batch)((s,), (a,)) for s, a in zip(batch.sources, batch.answers, strict=True)]
        parts = [super(RowByRow, self).loss(row) for row in rows]
        return {side: sum(part[side] for part in parts) / len(parts) for side in self.models}


class Repeating(TinyWire):
    """An answer that is one letter again and again, and its stop token."""

    def answer_ids(self, side, answer):
        return [*super().answer_ids(side, answer)[:-1], 64, 64, 64, 64, rigs.EOS]


@pytest.mark.parametrize("kind", [Smoothed, FirstToken, FirstTokens, RowByRow, Repeating])
def test_wir06_and_wir17_not_on_other_sound_losses(kind):
    found = findings(kind)
    assert fired(found) == set()
    assert len(found["WIR06"]) == len(found["WIR17"]) == 2


class LaterToken(FirstToken):
    """Shifts too many where nothing handed can show it: the answer's third byte; its first is a space."""

    cut = 3


def test_wir17_a_first_token_that_comes_later_in_the_answer():
    found = findings(LaterToken)
    assert fired(found) == {"WIR17"}
    assert found["WIR06"][0].claim.startswith("All 3 tokens that the loss asks of A stand past the end")


def test_wir06_is_told_where_all_logits_are_alike():
    model = rigs.llama()
    model.lm_head.weight.data.zero_()
    for kind, severity in ((TinyWire, Severity.OK), (Twice, Severity.BLOCK)):
        assert findings(kind, tiny_wires.models(model))["WIR06"][0].severity is severity


# --- what cannot be told


class Distilled(TinyWire):
    """A teacher's distribution and no answer."""

    def side_loss(self, side, inputs):
        inputs.pop("labels")
        logits = self.models[side].model(**inputs, use_cache=False).logits
        with torch.no_grad():
            teacher = logits.roll(1, dims=1).softmax(dim=-1)
        return functional.kl_div(logits.log_softmax(dim=-1), teacher, reduction="batchmean")


class Fused(TinyWire):
    """The head's weight is used and the head is not called, as a fused loss does."""

    def side_loss(self, side, inputs):
        labels, model = inputs.pop("labels"), self.models[side].model
        hidden = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        return functional.cross_entropy((hidden @ model.lm_head.weight.T).flatten(0, 1), labels[:, 1:].flatten())


class SoftText(TinyWire):
    """Noise on every embedding: no position holds a token."""

    def side_loss(self, side, inputs):
        noise = 1e-3 * torch.randn_like(inputs["inputs_embeds"])
        return super().side_loss(side, inputs | {"inputs_embeds": inputs["inputs_embeds"] + noise})


@pytest.mark.parametrize("kind", [Distilled, Fused, SoftText])
def test_wir06_what_cannot_be_told_is_a_skip_and_no_pass(kind):
    run = own(kind)
    assert isinstance(run, Skipped)
    assert run.reason == "which tokens the loss asks for cannot be told"
    assert {finding.severity for finding in run.findings if finding.code == "WIR06"} == {Severity.NOTE}
    assert {finding.code for finding in run.findings} >= {"WIR02", "WIR04", "WIR07"}, "every other check was made"


def test_wir06_what_cannot_be_told_of_real_weights_is_a_warning():
    found = findings(Distilled, ground=replace(GROUND, level=Level.EXECUTED))
    assert {finding.severity for finding in found["WIR06"]} == {Severity.WARN}


def test_wir06_what_cannot_be_told_keeps_the_run_in_its_own_dtype():
    run = own(Distilled, train=TrainSpec(dtype="bfloat16"))
    assert isinstance(run, Skipped)
    assert run.findings[-1].claim == "The same step runs between models in bfloat16, and everything stays finite."


class TaughtBeside(TinyWire):
    """The answer's own loss, and beside it a teacher's choice of another token, as a term of its own."""

    def loss(self, batch):
        terms = super().loss(batch)
        for side, prefix in self.prefix(batch).items():
            inputs = self.sequence(side, batch, prefix)
            choice = torch.where(inputs["labels"] == IGNORED, IGNORED, (inputs["labels"] + 1) % 256)
            terms[f"{side}.choice"] = self.side_loss(side, inputs | {"labels": choice})
        return terms


def test_wir06_a_teachers_choice_beside_a_sound_loss_is_a_warning():
    found = findings(TaughtBeside)
    assert [finding.severity for finding in found["WIR06"]] == [Severity.WARN, Severity.WARN]
    assert "the term `a.choice` of the loss" in found["WIR06"][0].claim
    assert fired(found) == {"WIR06"}


class OneAnswers(TinyWire):
    """A reads under gradients, and only B is asked for anything."""

    def __init__(self, *given):
        super().__init__(*given)
        self.net.bridge = nn.Linear(48, 64)

    def loss(self, batch):
        prefixes = self.prefix(batch)
        inputs = self.sequence("a", batch, prefixes["a"])
        inputs.pop("labels")
        hidden = self.models["a"].model(**inputs, output_hidden_states=True, use_cache=False).hidden_states[-1]
        told = prefixes["b"] + 1e-3 * self.net.bridge(hidden[:, -4:])
        return self.side_loss("b", self.sequence("b", batch, told))


def test_wir06_of_a_model_that_only_reads_is_not_asked():
    found = findings(OneAnswers)
    assert fired(found) == set()
    assert [finding.claim[:52] for finding in found["WIR06"]] == [
        "Each of the 45 tokens that the loss asks of B is the"
    ]


class FusedB(TinyWire):
    """B's loss from its hidden states and its head's weight, with labels shifted twice; A's as the model takes it."""

    def side_loss(self, side, inputs):
        if side == "a":
            return super().side_loss(side, inputs)
        labels, model = inputs.pop("labels"), self.models[side].model
        hidden = model(**inputs, output_hidden_states=True, use_cache=False).hidden_states[-1]
        logits = functional.linear(hidden, model.get_output_embeddings().weight)
        return functional.cross_entropy(logits[:, :-2].flatten(0, 1), labels[:, 2:].flatten())


class FusedBOfItsOwnSchedule(FusedB):
    def backward(self, batch):
        terms = self.loss(batch)
        sum(terms.values()).backward()
        return {side: term.detach() for side, term in terms.items()}


@pytest.mark.parametrize("kind", [FusedB, FusedBOfItsOwnSchedule])
def test_wir06_a_loss_past_one_models_logits_is_a_skip_and_no_pass(kind):
    run = own(kind)
    assert isinstance(run, Skipped)
    assert run.reason == "which tokens the loss asks for cannot be told"
    told, untold = (finding for finding in run.findings if finding.code == "WIR06")
    assert (told.severity, untold.severity) == (Severity.OK, Severity.NOTE)
    assert untold.claim.startswith("Whether the loss asks B for tokens cannot be told")


class NoModel(TinyWire):
    """The loss is the prefix's own norm: no model is in it."""

    def loss(self, batch):
        return sum(x.square().mean() for x in self.prefix(batch).values()) + self.net.embed.weight.square().mean()


def test_wir06_a_loss_that_passes_no_model():
    found = findings(NoModel)
    (finding,) = found["WIR06"]
    assert finding.severity is Severity.BLOCK
    assert finding.claim == "The loss does not come back through either frozen model."


def test_wir06_and_wir17_hold_in_the_shipped_wires_losses():
    spec = rigs.SPEC.model_copy(update={"losses": ("answer", "first-k", "kd")})
    for resident in ("joint", "sequential"):
        run = run_one(WIRE_TWIN, rigs.bench(spec, TrainSpec(dtype="float32", resident=resident)))
        assert {finding.severity for finding in run.findings} == {Severity.OK}
