"""WIR17: what the loss asks for is the row's answer, by the tokenizer of the model that is asked."""

from __future__ import annotations

import torch

from tests.tiny_wires import TinyWire
from tests.wire_checks import findings, fired, observed
from wirecheck.schema import Severity

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
    """Answers cut in the middle of a character."""

    def answer_ids(self, side, answer):
        return super().answer_ids(side, answer)[:5]


class WithTheAnchor(TinyWire):
    """Labels on the anchor too."""

    def sequence(self, side, batch, prefix_BMD):
        inputs = super().sequence(side, batch, prefix_BMD)
        anchor, M = torch.tensor(self.anchor_ids(side)), prefix_BMD.shape[1]
        inputs["labels"][:, M : M + len(anchor)] = anchor
        return inputs


def test_wir17_not_on_cut_answers_nor_on_an_anchor_that_is_labelled_too():
    for kind, words in ((Cut, "as far as they go"), (WithTheAnchor, "whole")):
        found = findings(kind)
        assert fired(found) == set()
        assert f"answer, {words}, by" in found["WIR17"][0].claim


def test_wir17_not_on_a_sound_wire():
    for finding in findings()["WIR17"]:
        assert finding.severity is Severity.OK
        assert observed(finding) == ["'in Porto', '12.56636, a float', '東京 (Tokyo)'"]
