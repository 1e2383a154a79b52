"""The three losses against sums written down independently: one row at a time, no padding, no label."""

from __future__ import annotations

import pytest
import torch

from tests.shipped_wires import made
from wirecheck.wires.contract import Batch
from wirecheck.wires.receiver import ANCHOR
from wirecheck.wires.samples import SAMPLES

SHORT = Batch(SAMPLES.sources[:3], ("", "in Porto", "x"))
"""Answers of 2, 10 and 3 tokens: some rows end before the K-th."""


@torch.no_grad()
def log_probabilities(receiver, prefix_MD, ids):
    """-> log p of every token of the vocabulary at each answer token, of one row, by one plain forward."""
    embed = receiver.model.get_input_embeddings()
    given = torch.cat((prefix_MD, embed(torch.tensor([*receiver.anchor, *ids]))))
    logits = receiver.model(inputs_embeds=given[None], use_cache=False).logits[0]
    return logits[-len(ids) - 1 : -1].log_softmax(dim=-1)


@torch.no_grad()
def teacher(receiver, source, ids):
    tok = receiver.tokenizer
    prompt = tok.encode(f"{source}\n{ANCHOR}")
    logits = receiver.model(torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0]
    return logits[len(prompt) - 1 : len(prompt) - 1 + len(ids)].log_softmax(dim=-1)


def rows_of(wire, side, batch):
    """(receiver's ids of the answer, log p of the student, log p of the teacher) row by row."""
    receiver = wire.receivers[side]
    for source, answer, prefix in zip(*batch, wire.prefix(batch)[side], strict=True):
        ids = [*receiver.tokenizer.encode(f" {answer}", add_special_tokens=False), receiver.tokenizer.eos_token_id]
        yield ids, log_probabilities(receiver, prefix, ids), teacher(receiver, source, ids)


@pytest.mark.parametrize("batch", [SAMPLES, SHORT])
@pytest.mark.parametrize("k", [1, 3, 50])
@pytest.mark.parametrize("name", ["bytes", "resampler"])
def test_the_terms_are_the_sums_they_are_said_to_be(name, k, batch):
    wire, _ = made(name, losses=("answer", "first-k", "kd"), first_k=k)
    found = wire.loss(batch)
    for side in ("a", "b"):
        answer, first, kd = [], [], []
        for ids, student, text in rows_of(wire, side, batch):
            chosen = [-student[t, y].item() for t, y in enumerate(ids)]
            distance = (text.exp() * (text - student)).sum(dim=-1).tolist()
            answer += chosen
            first += chosen[:k]
            kd += distance[:k]
        for term, values in (("answer", answer), ("first-k", first), ("kd", kd)):
            expected = sum(values) / len(values)
            assert found[f"{side}.{term}"].item() == pytest.approx(expected, rel=2e-4, abs=1e-7), (side, term)


def test_first_k_of_the_whole_answer_is_the_answers_loss():
    wire, _ = made(losses=("answer", "first-k"), first_k=99)
    terms = wire.loss(SAMPLES)
    assert terms["a.first-k"].item() == pytest.approx(terms["a.answer"].item(), rel=1e-5)


def test_each_of_the_k_forwards_sees_only_the_tokens_before():
    wire, (a, _) = made(losses=("first-k",), first_k=3)
    lengths = []
    a.model.register_forward_pre_hook(
        lambda _m, _args, kwargs: lengths.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    wire.loss(SAMPLES)
    start = 4 + len(wire.receivers["a"].anchor)
    assert lengths == [start, start + 1, start + 2]


def test_the_teacher_reads_text_without_gradient_and_once():
    wire, (a, _) = made(losses=("kd",), first_k=2)
    read = []

    def note(_module, _args, kwargs, output):
        read.append(("input_ids" in kwargs, output.logits.requires_grad))

    a.model.register_forward_hook(note, with_kwargs=True)
    wire.loss(SAMPLES)
    assert read == [(True, False), (False, True), (False, True)]


def test_a_teacher_that_is_the_student_is_at_no_distance():
    wire, _ = made(losses=("kd",), first_k=2)
    receiver = wire.receivers["a"]
    source = "some source"
    prompt = receiver.tokenizer.encode(f"{source}\n{ANCHOR}")
    batch = Batch((source,), ("in Porto",))
    embed = receiver.model.get_input_embeddings()
    receiver.anchor = prompt[-1:]
    prefix = embed(torch.tensor(prompt[:-1]))[None]
    receiver.prompts = lambda _batch: [prompt]
    from wirecheck.wires.losses import kd_loss

    assert kd_loss(receiver, prefix, batch, 2).item() == pytest.approx(0, abs=1e-6)
