"""A loaded tokenizer as the probes see it: its roles, its strings, and the ids of ordinary text. No probe."""

# ruff: noqa: RUF001  letters of other alphabets are wanted here

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from wirecheck.probe import ModelBench
from wirecheck.probes.rows import EmbeddingRows, embedding_rows
from wirecheck.schema import Evidence, Level, Scalar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS: tuple[tuple[str, str], ...] = (
    ("English", "The quick brown fox doesn't jump over 1,234 lazy dogs ."),
    ("German, French, Spanish", "Grüße aus Köln, señor; l'été à Paris - déjà vu?"),
    ("Chinese", "你好，世界。今天天气很好！"),
    ("Japanese", "こんにちは、世界。カタカナも。"),
    ("Korean", "안녕하세요, 세계"),
    ("Russian", "Привет, мир! Ещё раз."),
    ("Arabic, Hebrew", "مرحبا بالعالم שלום עולם"),
    ("Hindi, Thai", "नमस्ते दुनिया สวัสดีชาวโลก"),
    ("code", 'def f(x):\n\tif x > 1:\n        return {"a": [x, 2]}  # two  spaces\n\n\nprint(f(3) != 4)\n'),
    ("emoji", "🙂🚀 👩\u200d👩\u200d👧 🇩🇪"),
    ("rare signs", "𝔸 ꙮ \ue000 𓀀"),
)
"""The ordinary text, by what it stands for; composed (NFC), as text on the web is."""

WORD = "Hello"
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
SHOWN = 5
"""How many ids a claim names before it counts the rest."""


@dataclass(frozen=True)
class Vocabulary:
    """A loaded tokenizer, and what every check asks of it; each answer is kept."""

    bench: ModelBench
    tokenizer: PreTrainedTokenizerBase

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of a text, with what the tokenizer adds by itself or without."""
        return [int(i) for i in self.tokenizer(text, add_special_tokens=special)["input_ids"]]

    def token(self, role: str) -> str | None:
        """The string of a special role such as `eos`."""
        token = getattr(self.tokenizer, f"{role}_token", None)
        return None if token is None else str(token)

    def id(self, role: str) -> int | None:
        """The id of a special role."""
        found = getattr(self.tokenizer, f"{role}_token_id", None)
        return int(found) if found is not None else None

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Every token string and its id, added tokens included."""
        return dict(self.tokenizer.get_vocab())

    @cached_property
    def strings(self) -> dict[int, str]:
        """The string of each id; of an id with several, the first in order: `get_vocab` lists them as it likes."""
        found = {i: string for string, i in self.vocabulary.items()}
        if len(found) < len(self.vocabulary):
            found = {i: string for string, i in sorted(self.vocabulary.items(), reverse=True)}
        return found

    @cached_property
    def doubled(self) -> dict[int, list[str]]:
        """Every string of each id that has several, sorted."""
        by_id: dict[int, list[str]] = defaultdict(list)
        if len(self.strings) < len(self.vocabulary):
            for string, i in sorted(self.vocabulary.items()):
                by_id[i].append(string)
        return {i: strings for i, strings in by_id.items() if len(strings) > 1}

    @cached_property
    def num_tokens(self) -> int:
        """The highest id + 1."""
        return max(self.strings) + 1

    @cached_property
    def rows(self) -> EmbeddingRows | None:
        """Rows of the embedding, where anything tells."""
        return embedding_rows(self.bench)

    @cached_property
    def samples(self) -> dict[str, list[int]]:
        """The ids of each ordinary text."""
        return {name: self.encode(text) for name, text in TEXTS}

    @cached_property
    def sampled(self) -> frozenset[int]:
        """Every id that ordinary text reaches."""
        return frozenset(i for ids in self.samples.values() for i in ids)

    @cached_property
    def special(self) -> dict[str, int]:
        """Every declared special token: the roles, and the added tokens flagged special."""
        declared = {str(t): int(i) for role in ROLES if (t := self.token(role)) and (i := self.id(role)) is not None}
        added: dict[int, Any] = self.tokenizer.added_tokens_decoder
        return declared | {str(token): i for i, token in added.items() if token.special}

    def in_front(self) -> list[int] | None:
        """What plain encoding puts before a word; None where the word itself comes out otherwise."""
        plain, whole = self.encode(WORD), self.encode(WORD, special=True)
        for start in range(len(whole)):
            if whole[start : start + len(plain)] == plain:
                return whole[:start]
        return None

    def has_row(self, i: int) -> bool:
        """Whether the embedding has a row for an id (taken for granted where nothing tells how many there are)."""
        return self.rows is None or i < self.rows.count

    def show(self, ids: list[int] | frozenset[int]) -> str:
        """Ids with their tokens, the first few."""
        ordered = sorted(ids)
        named = [f"{'/'.join(self.doubled.get(i, [self.strings.get(i, '?')]))} ({i})" for i in ordered[:SHOWN]]
        return ", ".join(named) + (f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else "")


def saw(source: str, observed: Scalar, expected: Scalar = None) -> Evidence:
    """What was read from the tokenizer's or the template's behaviour."""
    return Evidence(level=Level.INSPECTED, source=source, observed=observed, expected=expected)


def show_list(ids: list[int]) -> str:
    """Ids in their order."""
    return ", ".join(str(i) for i in ids) or "none"
