"""Plain text that a language model knows if it knows anything, and how well a model predicts it.

Each passage is one that even a small model has met: the first article of the Universal Declaration of Human Rights in
seven languages, a textbook function, the first sentence of the MIT licence, a children's tale. The last is of the text
that the models of `wirecheck demo` were trained on.

B passages, T positions, V vocabulary.
"""
# ruff: noqa: N806, RUF001  # other alphabets; shape-suffixed tensor names

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wirecheck.errors import CannotRun
from wirecheck.limits import within_means

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Quiet = Callable[[], AbstractContextManager[None]]

MOST_TOKENS = 36
"""Of one passage: a tokenizer of bytes would make four times as many."""

PASSAGES: dict[str, str] = {
    "English": (
        "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience "
        "and should act towards one another in a spirit of brotherhood."
    ),
    "French": (
        "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
        "conscience et doivent agir les uns envers les autres dans un esprit de fraternité."
    ),
    "Spanish": (
        "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
        "conciencia, deben comportarse fraternalmente los unos con los otros."
    ),
    "Russian": (
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
        "должны поступать в отношении друг друга в духе братства."
    ),
    "Arabic": (
        "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميراً وعليهم أن يعامل "
        "بعضهم بعضاً بروح الإخاء."
    ),
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "Japanese": "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "code": (
        "def factorial(n):\n    if n == 0:\n        return 1\n    return n * factorial(n - 1)\n\n\n"
        "for i in range(10):\n    print(i, factorial(i))\n"
    ),
    "a licence": (
        "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated "
        'documentation files (the "Software"), to deal in the Software without restriction, including without '
        "limitation the rights to use, copy, modify, merge, publish, distribute"
    ),
    "a tale": (
        "Once upon a time there was a little girl named Lily. She loved to play outside in the park with her friends. "
        "One day, she saw a big red ball under a tree. She was very happy and ran to get it."
    ),
    "a bee": (
        "A bee is a tiny animal with six legs. It lives in a hive, it eats nectar, and it hums. When the bee is "
        "hungry, it looks for nectar."
    ),
}


@dataclass(frozen=True)
class Prediction:
    """How well a model predicts the passages. Losses are means over next tokens, in nats."""

    losses: dict[str, float]
    """By passage."""
    shuffled: float
    """Loss on the tokens of the best passage in shuffled order."""
    num_rows: int
    """V: what the model chooses among."""
    num_tokens: int
    """Predicted in all."""

    @property
    def best(self) -> str:
        """The passage predicted best; one whose loss is no number is the worst."""
        return min(self.losses, key=lambda name: self.losses[name] if math.isfinite(self.losses[name]) else math.inf)

    @property
    def chance(self) -> float:
        """ln V: the loss of guessing among all rows alike."""
        return math.log(self.num_rows)


def predict(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, seed: int, quiet: Quiet) -> Prediction:
    """The model's losses on `PASSAGES`, one batch, and on the best of them shuffled by `seed`.

    A BOS stands before each where the tokenizer itself puts one. CannotRun where the tokenizer makes nothing of them
    that the model has rows for, or this machine cannot run it; otherwise raises as the class does.
    """
    import torch

    before, texts = passage_ids(tokenizer)
    num_embedded = next(model.get_input_embeddings().parameters()).shape[0]
    if not texts or max(map(max, texts.values())) >= num_embedded:
        raise CannotRun("the tokenizer makes no ids of plain text that the embedding has rows for")
    with torch.no_grad(), within_means(), quiet():
        found, num_rows = losses_of(model, [[*before, *ids] for ids in texts.values()])
        losses = dict(zip(texts, found, strict=True))
        prediction = Prediction(losses, math.inf, num_rows, sum(len(ids) - 1 + len(before) for ids in texts.values()))
        ids = texts[prediction.best]
        order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed)).tolist()
        (shuffled,), _ = losses_of(model, [[*before, *(ids[i] for i in order)]])
    return Prediction(losses, shuffled, num_rows, prediction.num_tokens)


def passage_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], dict[str, list[int]]]:
    """What stands before every text, and the ids of each passage that makes at least two, cut to `MOST_TOKENS`."""
    bos = tokenizer.bos_token_id
    before = [bos] if bos is not None and tokenizer.encode("x")[:1] == [bos] else []
    encoded = {name: tokenizer.encode(text, add_special_tokens=False) for name, text in PASSAGES.items()}
    return before, {name: ids[:MOST_TOKENS] for name, ids in encoded.items() if len(ids) > 1}


def losses_of(model: PreTrainedModel, rows: list[list[int]]) -> tuple[list[float], int]:
    """Each row's mean next-token loss, in nats, and V; rows of ids are padded on the right, where nothing sees it."""
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(map(len, rows))
    device = next(model.get_input_embeddings().parameters()).device
    ids_BT = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
    mask_BT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    losses = [
        float(cross_entropy(logits_BTV[b, : len(row) - 1].float(), ids_BT[b, 1 : len(row)]))
        for b, row in enumerate(rows)
    ]
    return losses, int(logits_BTV.shape[-1])
