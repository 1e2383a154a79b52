"""Rows of {"passage", "answer"} -> tensors."""

from dataclasses import dataclass
from typing import Any

import torch


def pad(rows, value):
    """Lists of unequal length -> one tensor, padded on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


@dataclass
class QACollator:
    """Tokenizes passages for the reader, and the question's cue with its answer for the answerer."""

    reader_tokenizer: Any
    answerer_tokenizer: Any
    max_passage: int = 512
    max_answer: int = 64
    cue: str = "Answer:"
    shift_labels: bool = False  # for answerers that take targets already shifted, like nanoGPT; HF models do not

    def __call__(self, rows):
        """-> passage_ids, passage_mask, text_ids, text_mask, labels, cue_length"""
        passages = [self.reader_tokenizer.encode(row["passage"])[: self.max_passage] for row in rows]
        cue = self.answerer_tokenizer.encode(self.cue)
        if cue[-1] == self.answerer_tokenizer.eos_token_id:  # T5-like tokenizers close every text
            cue = cue[:-1]
        answers = [self.answer_ids(row["answer"]) for row in rows]
        labels = pad([[-100] * len(cue) + answer for answer in answers], -100)
        if self.shift_labels:
            labels = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], dim=1)
        return {
            "passage_ids": pad(passages, 0),
            "passage_mask": pad([[1] * len(passage) for passage in passages], 0),
            "text_ids": pad([cue + answer for answer in answers], 0),
            "text_mask": pad([[1] * len(cue + answer) for answer in answers], 0),
            "labels": labels,
            "cue_length": len(cue),
        }

    def answer_ids(self, answer):
        """` answer<eos>`, cut to its longest."""
        ids = self.answerer_tokenizer.encode(" " + answer, add_special_tokens=False)
        return [*ids, self.answerer_tokenizer.eos_token_id][: self.max_answer]
