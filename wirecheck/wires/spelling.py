"""Whether the tokens a loss asks for spell the row's answer, by the tokenizer of the model that is asked.

Texts are compared with runs of white space as one space, and after a round trip through that tokenizer: what it
cannot keep is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from wirecheck.wires.alignment import Handed, Sighting
from wirecheck.wires.contract import WiredModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_BEFORE = 64
"""Tokens handed before the first one asked for that may belong to the answer."""
OF_THE_SOURCE = 20
"""Characters in a row, spaces left out, that a text shares with a source if it is a part of it."""


@dataclass(frozen=True)
class Line:
    """What is asked of one row of one forward, as text."""

    row: int
    text: str
    answer: int | None
    """The answer it spells, or begins; None where it is none of them."""
    is_whole: bool
    """Whether the answer is there to its end."""
    ends: bool
    """Whether a stop token is asked for."""
    said: tuple[int, ...] = ()
    """The tokens asked for, up to the stop token."""
    num_before: int = 0
    """Those of them that stand before a whole answer and are text."""
    before: str = ""
    """What these decode to."""
    is_past: bool = False
    """Whether each stands past the end of what is handed, as in a loss on the first tokens alone."""

    @property
    def num_asked(self) -> int:
        """Tokens of the answer and its stop token that are asked for."""
        return len(self.said) - self.num_before + self.ends


@dataclass(frozen=True)
class Spelling:
    """One answer as a tokenizer writes it."""

    texts: tuple[str, ...]
    """As given, and after a round trip without and with a space before it."""
    ids: list[list[int]]

    def is_in(self, spelt: str) -> bool:
        """Whether the whole answer is there."""
        return any(whole in spelt for whole in self.texts)

    def begins_with(self, spelt: str, said: list[int]) -> bool:
        """By text; or by ids, where these are a space alone or a part of a character."""
        by_text = bool(spelt) and any(whole.startswith(spelt) for whole in self.texts)
        return by_text or (bool(said) and any(one[: len(said)] == said for one in self.ids))


class Speller:
    """The answers as one model's tokenizer writes them, and the reading of what is asked of that model."""

    def __init__(self, one: WiredModel, answers: Sequence[str], ends: frozenset[int]) -> None:
        self.tokenizer = one.tokenizer
        self.ends = ends
        self.spellings = [_spelling(one.tokenizer, answer) for answer in answers]

    def lines(self, seen: Sequence[Sighting], handed: Handed) -> list[Line]:
        """One line for each row that is asked for single tokens."""
        return [self._line(row, list(group), handed) for row, group in groupby(seen, key=lambda one: one.row)]

    def _line(self, row: int, seen: list[Sighting], handed: Handed) -> Line:
        tokens = [one.token for one in seen if not one.is_padding]
        stop = next((n for n, token in enumerate(tokens) if token in self.ends), len(tokens))
        first = seen[0].position + 1
        before = handed.ids_BS[row, max(0, first - MOST_BEFORE) : first].tolist()
        said, ends = tokens[:stop], stop < len(tokens)
        text = self._read(said)
        line = Line(row, text, None, is_whole=False, ends=ends, said=tuple(said), is_past=all(s.is_past for s in seen))
        order = sorted(range(len(self.spellings)), key=lambda n: n != row % len(self.spellings))  # its own first
        for ids in (said, *_longer(said, before)):
            spelt = self._read(ids)
            for answer in order:
                if self.spellings[answer].is_in(spelt):
                    lead = self._before(said, self.spellings[answer])
                    return replace(line, answer=answer, is_whole=True, num_before=len(lead), before=self._read(lead))
            for answer in order:
                if self.spellings[answer].begins_with(spelt, ids):
                    return replace(line, answer=answer)
        return line

    def _before(self, said: list[int], spelling: Spelling) -> list[int]:
        """The tokens before the last whole answer among those asked for, from the first to the last that is text."""
        end = next((k for k in range(len(said), 0, -1) if spelling.is_in(self._read(said[k:]))), 0)
        texts = [k for k in range(end) if str(self.tokenizer.decode([said[k]], skip_special_tokens=True)).strip()]
        return said[texts[0] : texts[-1] + 1] if texts else []

    def needed(self, answer: int) -> int:
        """Tokens of one answer, as the shortest of its spellings has them; without a stop token."""
        return min(map(len, self.spellings[answer].ids))

    def _read(self, tokens: list[int]) -> str:
        return _plain(str(self.tokenizer.decode(tokens, skip_special_tokens=True)).rstrip("\ufffd"))


def is_of_a_source(text: str, sources: Sequence[str]) -> bool:
    """Whether the text holds a part of one of them."""
    held = "".join(text.split())
    plain = ["".join(source.split()) for source in sources]
    return any(
        one[n : n + OF_THE_SOURCE] in held for one in plain for n in range(max(len(one) - OF_THE_SOURCE, 0) + 1) if one
    )


def _longer(said: list[int], before: list[int]) -> Iterator[list[int]]:
    """The tokens with more and more of those handed just before them, back to the first soft one."""
    for k in range(1, len(before) + 1):
        if before[-k] < 0:
            return
        yield before[-k:] + said


def _spelling(tokenizer: PreTrainedTokenizerBase, answer: str) -> Spelling:
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in (answer, f" {answer}")]
    texts = [answer, *(str(tokenizer.decode(one, skip_special_tokens=True)) for one in ids)]
    return Spelling(tuple(dict.fromkeys(plain for text in texts if (plain := _plain(text)))), ids)


def _plain(text: str) -> str:
    return " ".join(text.split())
