"""One frozen model that is handed soft tokens: the text around them as its own ids, its forward, its greedy decoding.

    B batch   M soft tokens   A anchor tokens   L answer tokens (the longest row's)   N = A + L   S = M + N
    D model width   V vocabulary

    sequence:   [prefix M][anchor A][answer L]       labels: -100 on prefix, anchor and padding

Rows are padded on the right and masked, so that a token's position is its index. Labels are shifted once, inside the
model's own loss; nobody shifts them here.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from wirecheck.errors import CannotRun
from wirecheck.schema import TrainSpec
from wirecheck.wires.contract import Batch, SideName, WiredModel
from wirecheck.wires.failure import part

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANCHOR = "Answer:"  # no trailing space: it would merge with the answer's first word
IGNORED = -100  # the label HF's losses leave out
_STATES = "cache_params"
"""What state-space classes call the cache they return."""
_CACHES = ("past_key_values", _STATES)
"""What classes call theirs, and take back under the same name."""


class Tokens(NamedTuple):
    """Rows of ids, right-padded: ids_BL int64; mask_BL bool, True on a token. A masked id means nothing."""

    ids_BL: Tensor
    mask_BL: Tensor


class Receiver:
    """A frozen model at the receiving end of a wire."""

    def __init__(self, one: WiredModel, train: TrainSpec) -> None:
        """Freezes the model. CannotRun where its tokenizer makes no tokens of plain text."""
        one.model.requires_grad_(requires_grad=False)
        self.side: SideName = one.side
        self.model, self.tokenizer = one.model, one.tokenizer
        self.embedding = one.model.get_input_embeddings()
        self.max_answer_tokens = train.answer
        self.anchor = anchor_ids(one.tokenizer)
        if not one.tokenizer.encode(ANCHOR, add_special_tokens=False):
            raise CannotRun(f"{one.name}'s tokenizer makes no tokens of plain text: there is nothing to wire")

    @property
    def table(self) -> Tensor:
        """The embedding's weight: its device and its dtype are those of whatever the model is handed."""
        return next(self.embedding.parameters())

    @property
    def num_tokens(self) -> int:
        """Rows of the table that belong to tokens; the rest is padding that no text reaches."""
        return min(len(self.tokenizer), self.table.shape[0])

    # --- text to ids ---------------------------------------------------------------------------------------------

    def answers(self, batch: Batch) -> Tokens:
        """The answers as this model is to say them, on its device."""
        return self._padded([answer_ids(self.tokenizer, answer, self.max_answer_tokens) for answer in batch.answers])

    def prompts(self, batch: Batch) -> list[list[int]]:
        """Source and anchor as text, one row of ids each: what a model without a wire would read."""
        bos = self.anchor[:1] if adds_bos(self.tokenizer) else []
        texts = (f"{source}\n{ANCHOR}" for source in batch.sources)
        return [[*bos, *self.tokenizer.encode(text, add_special_tokens=False)] for text in texts]

    def _padded(self, rows: Sequence[Sequence[int]]) -> Tokens:
        ids_BL, mask_BL = pad_right(rows)
        return Tokens(ids_BL.to(self.table.device), mask_BL.to(self.table.device))

    # --- forward -------------------------------------------------------------------------------------------------

    def sequence(self, prefix_BMD: Tensor, answers: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """[prefix][anchor][answer] -> embeds_BSD in the embedding's dtype, mask_BS int64, labels_BS int64."""
        B, M, _ = prefix_BMD.shape
        ids_BL, mask_BL = answers
        anchor_BA = ids_BL.new_tensor(self.anchor).expand(B, -1)
        context = M + anchor_BA.shape[1]
        with part(f"sequence of {self.side}", prefix=prefix_BMD, anchor=anchor_BA, answer=ids_BL):
            text_BND = self.embedding(torch.cat((anchor_BA, ids_BL), dim=1))
            embeds_BSD = torch.cat((prefix_BMD.to(text_BND), text_BND), dim=1)
            mask_BS = torch.cat((mask_BL.new_ones(B, context), mask_BL), dim=1).long()
            labels_BL = ids_BL.masked_fill(~mask_BL, IGNORED)
            labels_BS = torch.cat((labels_BL.new_full((B, context), IGNORED), labels_BL), dim=1)
        return embeds_BSD, mask_BS, labels_BS

    def forward(self, embeds_BSD: Tensor, mask_BS: Tensor, labels_BS: Tensor | None = None) -> Any:
        """The model's own output for those embeddings, no cache kept; with `labels`, its own loss in it."""
        given = {} if labels_BS is None else {"labels": labels_BS}
        with part(f"model {self.side}", embeds=embeds_BSD, mask=mask_BS, **given):
            return self.model(inputs_embeds=embeds_BSD, attention_mask=mask_BS, use_cache=False, **given)

    def read(self, rows: Sequence[Sequence[int]], **asked: Any) -> tuple[Any, Tokens]:
        """The model's output for plain ids, no cache kept, and the ids as they were given."""
        tokens = self._padded(rows)
        with part(f"model {self.side}", ids=tokens.ids_BL, mask=tokens.mask_BL):
            output = self.model(input_ids=tokens.ids_BL, attention_mask=tokens.mask_BL.long(), use_cache=False, **asked)
        return output, tokens

    # --- decoding ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(self, prefix_BMD: Tensor, max_new_tokens: int) -> list[list[int]]:
        """Greedy: the ids that follow [prefix][anchor], row by row, up to and with the tokenizer's EOS.

        The cache is kept, and every step is given the mask of all positions so far and the position of its token: a
        mask of length 1 gives other logits in transformers 5. A class without a cache reads the whole row again.
        """
        embeds_BSD, mask_BS, _ = self.sequence(prefix_BMD, self._padded([[]] * len(prefix_BMD)))
        fed: dict[str, Any] = {"inputs_embeds": embeds_BSD}
        rows: list[list[int]] = [[] for _ in range(len(prefix_BMD))]
        open_rows, eos = set(range(len(rows))), self.tokenizer.eos_token_id
        for _ in range(max_new_tokens):
            with part(f"decoding of {self.side}", mask=mask_BS):
                output = self.model(use_cache=True, **fed, **self._places(fed, mask_BS))
            next_B = output.logits[:, -1].argmax(dim=-1)
            for row in open_rows:
                rows[row].append(int(next_B[row]))
            open_rows = {row for row in open_rows if rows[row][-1] != eos}
            if not open_rows:
                break
            mask_BS = torch.cat((mask_BS, mask_BS.new_ones(len(rows), 1)), dim=1)
            cache = {name: getattr(output, name) for name in _CACHES if getattr(output, name, None) is not None}
            if cache:
                fed = {"input_ids": next_B[:, None], **cache}
            else:
                fed = {"inputs_embeds": torch.cat((fed["inputs_embeds"], self.embedding(next_B[:, None])), dim=1)}
        return rows

    def _places(self, fed: dict[str, Any], mask_BS: Tensor) -> dict[str, Tensor]:
        """The mask of all positions, and where the tokens fed stand for a class that asks.

        No mask beside a state-space model's cache: it is multiplied into the tokens fed, not into those before them.
        """
        given = {} if _STATES in fed else {"attention_mask": mask_BS}
        if "position_ids" in inspect.signature(self.model.forward).parameters:
            new = next(fed[name] for name in ("input_ids", "inputs_embeds") if name in fed).shape[1]
            given["position_ids"] = (mask_BS.cumsum(dim=1) - 1)[:, -new:]
        return given


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself puts a BOS before plain text (its attributes are not asked)."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer.encode("x")[:1] == [bos]


def anchor_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """`Answer:`, after a BOS where the tokenizer puts one before plain text."""
    anchor: list[int] = tokenizer.encode(ANCHOR, add_special_tokens=False)
    bos = tokenizer.bos_token_id
    return [bos, *anchor] if adds_bos(tokenizer) else anchor


def answer_ids(tokenizer: PreTrainedTokenizerBase, answer: str, max_tokens: int) -> list[int]:
    """` answer` + EOS (where there is one), at most `max_tokens` ids: the text is cut, the EOS kept.

    The space belongs to the answer: the anchor ends without one.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    text: list[int] = tokenizer.encode(f" {answer}", add_special_tokens=False)
    return (text[: max_tokens - len(end)] + end)[:max_tokens]


def pad_right(rows: Sequence[Sequence[int]]) -> Tokens:
    """Those rows, as long as the longest. The id under a masked position is 0."""
    L = max(len(row) for row in rows)
    ids_BL = torch.tensor([[*row, *[0] * (L - len(row))] for row in rows], dtype=torch.long)
    mask_BL = torch.tensor([[True] * len(row) + [False] * (L - len(row)) for row in rows], dtype=torch.bool)
    return Tokens(ids_BL, mask_BL)
