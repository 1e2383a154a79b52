"""WIR17: what the loss asks for is the row's answer, by the tokenizer of the model that is asked."""

from __future__ import annotations

import pytest
import torch

from tests import rigs
from tests.tiny_wires import TinyWire
from tests.wire_checks import findings, fired, observed
from wirecheck.schema import Severity, TrainSpec

IGNORED = -100


class Foreign(TinyWire):
    """The ids of another tokenizer: a byte is 7 higher there."""

    def answer_ids(self, side, answer):
        ids = super().answer_ids(side, answer)
        return [*((id_ + 7) % 256 for id_ in ids[:-1]), ids[-1]] if side == "b" else ids


def test_wir17_ids_of_another_tokenizer():
    found = findings(Foreign)
    assert fired(found) == {"WIR17"}
    sound, wrong = found["WIR17"]
    assert sound.severity is Severity.OK
    assert wrong.severity is Severity.BLOCK
    assert wrong.claim == "In 3 rows the tokens asked of B do not decode to the answer, nor to its beginning."
    assert wrong.evidence[0].expected == "in Porto"


class Swapped(TinyWire):
    """The answers in another order than the sources."""

    def loss(self, batch):
        return super().loss(batch._replace(answers=batch.answers[::-1]))


def test_wir17_rows_swapped():
    found = findings(Swapped)
    assert fired(found) == {"WIR17"}
    assert found["WIR17"][0].claim == "Row 1 of A is asked for the answer of row 3."


class Sorted(TinyWire):
    """The rows in an order of the wire's own: sources and answers alike."""

    def loss(self, batch):
        return super().loss(batch._replace(sources=batch.sources[::-1], answers=batch.answers[::-1]))


def test_wir17_not_on_rows_that_the_wire_sorts():
    assert fired(findings(Sorted)) == set()


class Endless(TinyWire):
    def answer_ids(self, side, answer):
        return super().answer_ids(side, answer)[:-1]


def test_wir17_answers_without_an_end_are_a_note():
    found = findings(Endless)
    assert [finding.severity for finding in found["WIR17"]] == [Severity.OK, Severity.NOTE] * 2
    assert found["WIR17"][1].claim.startswith("A is asked for whole answers and never for a stop token")


class Cut(TinyWire):
    """Answers cut in the middle of a character, and without an end."""

    most = 5

    def answer_ids(self, side, answer):
        return super().answer_ids(side, answer)[: self.most]


class FirstLabelled(TinyWire):
    """The whole answer is handed, and its first token labelled."""

    def sequence(self, side, batch, prefix_BMD):
        inputs = super().sequence(side, batch, prefix_BMD)
        inputs["labels"][:, prefix_BMD.shape[1] + len(self.anchor_ids(side)) + 1 :] = IGNORED
        return inputs


class CutWithAnEnd(Cut):
    def answer_ids(self, side, answer):
        return [*super().answer_ids(side, answer), rigs.EOS]


@pytest.mark.parametrize(("kind", "asked", "needed"), [(Cut, 15, 39), (FirstLabelled, 3, 39), (CutWithAnEnd, 18, 39)])
def test_wir17_answers_that_are_not_asked_for_to_their_end(kind, asked, needed):
    for letter, notes in by_letter(findings(kind)).items():
        (cut, *rest) = notes
        assert cut.severity is Severity.NOTE
        assert cut.claim.startswith(f"Of 3 answers the loss asks {letter} for {asked} of {needed} tokens")
        assert (cut.evidence[0].observed, cut.evidence[0].expected) == (asked, needed)
        ends = kind is CutWithAnEnd
        assert [note.claim for note in rest] == [f"{letter} is asked for no stop token: it learns no end."] * (not ends)


@pytest.mark.parametrize("most", [1, 5])
def test_wir17_not_on_answers_cut_where_the_run_says(most):
    kind = type("CutAsAsked", (Cut,), {"most": most})
    assert fired(findings(kind, train=TrainSpec(dtype="float32", answer=most))) == set()


def by_letter(found):
    """What is not ok in WIR17, by model."""
    bad = [finding for finding in found["WIR17"] if finding.severity is not Severity.OK]
    return {letter: [f for f in bad if f"asks {letter} " in f.claim or f.claim[0] == letter] for letter in "AB"}


class WithTheSource(TinyWire):
    """Source and anchor as text before the answer, and labels on all of it."""

    def sequence(self, side, batch, prefix_BMD):
        tok, answer_ids = self.models[side].tokenizer, self.answer_ids
        embed = self.models[side].model.get_input_embeddings()
        rows = [
            [*self.anchor_ids(side)[:1], *tok.encode(f"{source} Answer:", add_special_tokens=False)]
            for source in batch.sources
        ]
        rows = [[*row, *answer_ids(side, answer)] for row, answer in zip(rows, batch.answers, strict=True)]
        longest, M = max(map(len, rows)), prefix_BMD.shape[1]
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        labels = ids.masked_fill(real == 0, IGNORED)
        labels[:, 0] = IGNORED
        return {
            "inputs_embeds": torch.cat((prefix_BMD, embed(ids)), dim=1),
            "attention_mask": torch.cat((torch.ones(len(rows), M, dtype=torch.long), real), dim=1),
            "labels": torch.cat((torch.full((len(rows), M), IGNORED), labels), dim=1),
        }


def test_wir17_labels_on_the_source_too_are_a_warning():
    for letter, (finding,) in by_letter(findings(WithTheSource)).items():
        assert finding.severity is Severity.WARN
        assert finding.claim.startswith(f"The loss also asks {letter} for ")
        assert finding.claim.endswith("tokens of text before the answers, the source's text among them.")


class WithTheAnchor(TinyWire):
    """Labels on the anchor too."""

    def sequence(self, side, batch, prefix_BMD):
        inputs = super().sequence(side, batch, prefix_BMD)
        anchor, M = torch.tensor(self.anchor_ids(side)), prefix_BMD.shape[1]
        inputs["labels"][:, M : M + len(anchor)] = anchor
        return inputs


def test_wir17_labels_on_the_anchor_too_are_a_note():
    found = findings(WithTheAnchor)
    assert "answer, whole, by" in found["WIR17"][0].claim
    for letter, (note,) in by_letter(found).items():
        assert note.severity is Severity.NOTE
        total = 3 * len("Answer:")
        words = f"for {total} tokens of text before the answers, none of them the source's."
        assert note.claim == f"The loss also asks {letter} {words}"
        assert note.evidence[0].observed == "Answer:"


def test_wir17_not_on_a_sound_wire():
    for finding in findings()["WIR17"]:
        assert finding.severity is Severity.OK
        assert observed(finding) == ["'in Porto', '12.56636, a float', '東京 (Tokyo)'"]
