"""The text a model is handed before the answer: its BOS, how it ends, and whether answer and anchor join as text does.

S positions of a forward   A anchor tokens   L answer tokens

[BOS?][soft tokens][BOS?][anchor A][answer L]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wirecheck.wires.contract import WiredModel
from wirecheck.wires.steady import real_positions
from wirecheck.wires.watch import Call, handed_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_SPACES = 4
"""Tokens of white space alone that may follow a closed turn, as the line break of most templates."""


@dataclass(frozen=True, kw_only=True)
class Lead:
    """Of one row: the ids handed up to the position that is asked for the answer's first token, and the answer."""

    before: tuple[int, ...]
    """-1 a soft token."""
    answer: tuple[int, ...]
    """The tokens asked for, in their order."""

    @property
    def text(self) -> tuple[int, ...]:
        """The ids before the answer that are text."""
        return tuple(i for i in self.before if i >= 0)

    @property
    def anchor(self) -> tuple[int, ...]:
        """The text directly before the answer, back to the last soft token."""
        soft = max((n for n, i in enumerate(self.before) if i < 0), default=-1)
        return self.before[soft + 1 :]


def read_leads(one: WiredModel, calls: Sequence[Call], num_rows: int, tail: int) -> list[Lead] | None:
    """Of each row, from the first forward that asks it for a single token, on to those that ask for the next ones.

    The first row is read whole, of the others the text before the answer, at most `tail` positions. None where rows or
    tokens cannot be told.
    """
    begun: list[tuple[Call, int, tuple[int, ...]]] = []
    for row in range(num_rows):
        found = _asked(calls, row, num_rows)
        if found is None:
            return None
        begun.append(found)
    spans = [_before(call, row, position) for row, (call, position, _) in enumerate(begun)]
    leads = [tuple(handed_ids(one, spans[0][None])[0].tolist())]
    anchor = len(leads[0]) - 1 - max((n for n, i in enumerate(leads[0]) if i < 0), default=-1)
    for span in spans[1:]:
        if 0 < anchor <= len(span) and torch.equal(span[-anchor:], spans[0][-anchor:]):
            leads.append((-1, *leads[0][-anchor:]))  # the same text: the table need not be asked again
        else:
            leads.append(tuple(handed_ids(one, span[None, -tail:])[0].tolist()))
    return [Lead(before=ids, answer=tokens) for ids, (_, _, tokens) in zip(leads, begun, strict=True)]


def _before(call: Call, row: int, position: int) -> Tensor:
    """vectors_SD: what stands up to and with that position, masked positions left out."""
    real_S = real_positions(call)[row]
    real_S[position + 1 :] = False
    return call.embeds_BSD[row, real_S]


def _asked(calls: Sequence[Call], row: int, num_rows: int) -> tuple[Call, int, tuple[int, ...]] | None:
    """The first forward that asks this row for a token, the position that does, and the tokens one after the other."""
    begun: tuple[Call, int] | None = None
    tokens: list[int] = []
    for call in calls:
        B, S, _ = call.embeds_BSD.shape
        pairs = sorted(
            (int(at) % S, int(token))
            for asked in call.asked.values()
            for at, token in zip(asked.at_N, asked.token_N, strict=True)
            if token >= 0 and at >= 0 and int(at) // S == row
        )
        if pairs and num_rows != B:
            return None
        for position, token in pairs:
            begun = begun or (call, position)
            if position == begun[1] + len(tokens):
                tokens.append(token)
    return None if begun is None else (*begun, tuple(tokens))


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself puts its BOS before plain text; its attributes are not asked."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer.encode("x"))[:1] == [bos]


def num_bos(lead: Lead, bos: int, ends: frozenset[int]) -> int:
    """BOS tokens before the answer; of a BOS that also ends turns, those at the head of the text alone."""
    return _head(lead, bos) if bos in ends else lead.text.count(bos)


def closed_by(tokenizer: PreTrainedTokenizerBase, lead: Lead, ends: frozenset[int]) -> int | None:
    """The stop token that stands right before the answer, white space aside; None where none does."""
    text, bos = lead.anchor, tokenizer.bos_token_id
    if bos in ends and len(text) == len(lead.text):  # one token for both: at the head of the text it opens
        text = text[_head(lead, int(bos)) :]
    for i in reversed(text[-MOST_SPACES - 1 :]):
        if i in ends:
            return i
        if str(tokenizer.decode([i])).strip():
            return None
    return None


def _head(lead: Lead, bos: int) -> int:
    return next((n for n, i in enumerate(lead.text) if i != bos), len(lead.text))


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Where one row's answer begins, as its ids are and as its text is encoded."""

    used: tuple[int, ...]
    """Ids around the boundary; fewer than two where there is no text on both sides of it."""
    encoded: tuple[int, ...]
    """Ids of the same text, encoded as one."""
    text: str
    """What both decode to."""

    @property
    def is_same(self) -> bool:
        """Whether the boundary is where the tokenizer itself puts one."""
        return self.used == self.encoded


def joint(tokenizer: PreTrainedTokenizerBase, lead: Lead, ends: frozenset[int]) -> Joint | None:
    """The boundary of anchor and answer, by decoding both and encoding them as one.

    None where the anchor alone does not come back so: then nothing can be told of the boundary.
    """
    stop = next((n for n, i in enumerate(lead.answer) if i in ends), len(lead.answer))
    answer = lead.answer[:stop]
    kept = [text for text in (lead.anchor, _plain_tail(tokenizer, lead.anchor)) if _again(tokenizer, text) == text]
    if not kept:
        return None
    anchor = kept[0]
    used, encoded = (*anchor, *answer), _again(tokenizer, (*anchor, *answer))
    head = _common(used, encoded)
    tail = _common(used[head:][::-1], encoded[head:][::-1])
    if not anchor or not answer or used == encoded or not head <= len(anchor) <= len(used) - tail:
        near = (*anchor[-1:], *answer[:1])  # what changes further off is the tokenizer's own affair
        return Joint(used=near, encoded=near, text=_text(tokenizer, near))
    begin, end = min(head, len(anchor) - 1), max(len(used) - tail, len(anchor) + 1)
    shown = encoded[begin : len(encoded) - (len(used) - end)]
    return Joint(used=used[begin:end], encoded=shown, text=_text(tokenizer, used[begin:end]))


def _plain_tail(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[int, ...]:
    """The ids behind the last special token: a template's marks are no text."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    last = max((n for n, i in enumerate(ids) if i in special), default=-1)
    return tuple(ids[last + 1 :])


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _again(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(i) for i in tokenizer.encode(_text(tokenizer, ids), add_special_tokens=False))


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many ids the two begin with alike."""
    pairs = zip(left, right, strict=False)
    return next((n for n, (one, two) in enumerate(pairs) if one != two), min(len(left), len(right)))
