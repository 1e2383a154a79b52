"""The wire between two frozen models, with one small batch of text on it: what a step is run on.

    B batch   M latent slots   A anchor tokens   L answer tokens (the longest row's)

The models and tokenizers are passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from wirecheck.errors import CannotRun
from wirecheck.schema import WireSpec
from wirecheck.wires.adapter import Adapter, TableStatistics, read_table
from wirecheck.wires.bytes_encoder import BytesEncoder, SourceBytes, read_bytes
from wirecheck.wires.failure import part
from wirecheck.wires.initial import initialise
from wirecheck.wires.text_wire import adapter_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ANCHOR = "Answer:"  # no trailing space: it would merge with the answer's first word

SAMPLES: tuple[tuple[str, str], ...] = (
    ("Marie moved from Lyon to Porto in 1987 and opened a bakery there. Where is the bakery?", "in Porto"),
    ("def area(r):\n    return 3.14159 * r ** 2\n\nWhat does area(2) return?", "12.56636, a float"),
    ("Столица Франции - Париж. 東京は日本の首都です。 What is the capital of Japan?", "東京 (Tokyo)"),
)
"""Sources and answers of the small batch: English, code, other scripts; sources and answers of unequal length."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Side:
    """One frozen model with its adapter, and the batch's text as this model's tokens."""

    name: Literal["a", "b"]
    model: PreTrainedModel
    adapter: Adapter
    anchor_A: Tensor
    """int64 ids of the anchor, the same in every row."""
    answer_BL: Tensor
    """int64 ids of the answers, right-padded with 0; padding is told by the mask alone."""
    mask_BL: Tensor
    """bool, True on a token of the answer."""
    num_tokens: int
    """Rows of the embedding table that belong to tokens."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Rig:
    """Everything one step needs."""

    encoder: BytesEncoder
    sides: tuple[Side, ...]
    source: SourceBytes
    latent_length: int
    """M, as asked for."""

    def trainable(self) -> dict[str, nn.Parameter]:
        """What is trained, named `encoder.…`, `adapter_a.…`, `adapter_b.…`."""
        parts = {"encoder": self.encoder} | {f"adapter_{side.name}": side.adapter for side in self.sides}
        return {f"{part}.{name}": p for part, module in parts.items() for name, p in module.named_parameters()}


def build_encoder(spec: WireSpec, seed: int) -> BytesEncoder:
    """The encoder of the wire named. KeyError: no such wire. StepFailed: sizes that do not fit."""
    with part("encoder"):
        encoder = BytesEncoder(spec.latent_width, spec.latent_length, spec.max_bytes)
    initialise(encoder, seed)
    return encoder


def build_side(
    name: Literal["a", "b"],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: WireSpec,
    *,
    seed: int,
    max_answer_tokens: int,
    fold_ids: bool,
) -> Side:
    """An adapter fitted to the model's embedding table, and SAMPLES' answers as its tokens.

    CannotRun where the tokenizer makes no tokens of plain text; StepFailed where the wire's sizes do not fit.
    `fold_ids`: ids past a twin's shortened table are taken modulo its rows; otherwise they are left to fail.
    """
    embedding = model.get_input_embeddings()
    rows, device = next(embedding.parameters()).shape[0], model.device
    anchor = anchor_ids(tokenizer)
    answers = [answer_ids(tokenizer, answer, max_answer_tokens) for _, answer in SAMPLES]
    if not all((anchor, *answers)):
        raise CannotRun(f"{name}'s tokenizer makes no tokens of plain text: there is nothing to wire")
    anchor_A = torch.tensor(anchor, device=device)
    answer_BL, mask_BL = pad_right(answers)
    num_tokens = min(len(tokenizer), rows)
    with part(f"adapter {name}"):
        adapter = adapter_of(spec, read_table(embedding, num_tokens)).to(device)
        initialise(adapter, seed)
    return Side(
        name=name,
        model=model,
        adapter=adapter,
        anchor_A=anchor_A % rows if fold_ids else anchor_A,
        answer_BL=(answer_BL % rows if fold_ids else answer_BL).to(device),
        mask_BL=mask_BL.to(device),
        num_tokens=num_tokens,
    )


def build_rig(spec: WireSpec, seed: int, sides: tuple[Side, ...]) -> Rig:
    """The wire over SAMPLES' sources, on the first model's device. KeyError: no such wire. StepFailed: wrong sizes."""
    device = sides[0].model.device
    bytes_BT, mask_BT = read_bytes([source for source, _ in SAMPLES], spec.max_bytes)
    return Rig(
        encoder=build_encoder(spec, seed).to(device),
        sides=sides,
        source=SourceBytes(bytes_BT.to(device), mask_BT.to(device)),
        latent_length=spec.latent_length,
    )


def adapter_at_full_width(spec: WireSpec, skeleton: PreTrainedModel) -> Adapter:
    """The adapter of a full-size model, without data: shapes and counts only. `skeleton`: the model on meta."""
    D = next(skeleton.get_input_embeddings().parameters()).shape[1]
    with torch.device("meta"):
        table = TableStatistics(torch.empty(D), torch.empty(D), torch.empty(()))
        return adapter_of(spec, table)


# --- text to ids -------------------------------------------------------------------------------------------------


def anchor_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """`Answer:`, after a BOS where the tokenizer itself puts one before plain text (its attributes are not asked)."""
    bos = tokenizer.bos_token_id
    adds_bos = bos is not None and tokenizer.encode("x")[:1] == [bos]
    anchor: list[int] = tokenizer.encode(ANCHOR, add_special_tokens=False)
    return [bos, *anchor] if adds_bos else anchor


def answer_ids(tokenizer: PreTrainedTokenizerBase, answer: str, max_tokens: int) -> list[int]:
    """` answer` + EOS (where there is one), at most `max_tokens` ids: the text is cut, the EOS kept.

    The space belongs to the answer: the anchor ends without one.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    text: list[int] = tokenizer.encode(f" {answer}", add_special_tokens=False)
    return (text[: max_tokens - len(end)] + end)[:max_tokens]


def pad_right(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """-> ids_BL int64, mask_BL bool. The id under a masked position is 0 and means nothing."""
    L = max(len(row) for row in rows)
    ids_BL = torch.tensor([[*row, *[0] * (L - len(row))] for row in rows])
    mask_BL = torch.tensor([[True] * len(row) + [False] * (L - len(row)) for row in rows])
    return ids_BL, mask_BL
