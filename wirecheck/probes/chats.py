"""The chats a template is tried on, and what came of them. No probe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from wirecheck.probe import ModelBench
from wirecheck.probes.stops import Stops
from wirecheck.probes.vocabulary import WORD, saw
from wirecheck.schema import Evidence, Finding, Scalar, Severity
from wirecheck.templating import Chat, Outcome, Refused, Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM, FIRST, ANSWER, SECOND = (
    "Keep to the harbour rules.",
    "Which river runs here?",
    "The Limmat runs here.",
    "And which lake?",
)
"""One sentence per turn, so that each can be found again in what was rendered."""

_S, _U, _A, _V = ("system", SYSTEM), ("user", FIRST), ("assistant", ANSWER), ("user", SECOND)
_WORD = (("user", WORD),)
_ANOTHER_DAY = datetime(2031, 11, 5, 21, 47, 33)  # noqa: DTZ001  # a template sees local time
CHATS: tuple[Chat, ...] = (
    Chat(name="anchor", turns=_WORD, add_generation_prompt=True, tokenize=True),
    Chat(name="anchor, another day", turns=_WORD, add_generation_prompt=True, now=_ANOTHER_DAY),
    Chat(name="question", turns=(_U,)),
    Chat(name="question, generation prompt", turns=(_U,), add_generation_prompt=True),
    Chat(name="question, answer", turns=(_U, _A)),
    Chat(name="question, answer, question", turns=(_U, _A, _V)),
    Chat(name="system, question", turns=(_S, _U)),
    Chat(name="system, question, answer, question", turns=(_S, _U, _A, _V)),
    Chat(name="answer, question", turns=(_A, _V)),
)
"""What is rendered, by what it holds; `anchor` is the prompt of a wire."""
NEEDED = ("anchor", "question", "question, generation prompt", "question, answer", "question, answer, question")


@dataclass(frozen=True)
class View:
    """One template of a model, and what came of each chat."""

    bench: ModelBench
    tokenizer: PreTrainedTokenizerBase
    stops: Stops
    name: str | None
    """None for the template used by default."""
    outcomes: dict[str, Outcome]

    @property
    def label(self) -> str:
        """How a claim begins."""
        return "The chat template" if self.name is None else f"The chat template named {self.name}"

    def text(self, chat: str) -> str | None:
        """What was rendered; None where it was not."""
        outcome = self.outcomes.get(chat)
        return outcome.text if isinstance(outcome, Rendered) else None

    def refusal(self, chat: str) -> Refused | None:
        """How the template refused the chat; None where it did not."""
        outcome = self.outcomes.get(chat)
        return outcome if isinstance(outcome, Refused) else None

    def encode(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """The ids of a text, with what the tokenizer adds by itself or without."""
        return tuple(int(i) for i in self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def token(self, i: int) -> str:
        """An id as a reader sees it."""
        return f"{self.tokenizer.convert_ids_to_tokens(i)} ({i})"

    def saw(self, chat: str, observed: Scalar, expected: Scalar = None) -> Evidence:
        """Evidence from rendering one chat."""
        template = "" if self.name is None else f", chat_template={self.name}"
        return saw(f"apply_chat_template({chat}{template})", observed, expected)

    def trap(self, code: str, claim: str, *evidence: Evidence, severity: Severity | None = None) -> Finding:
        """A finding of the table's severity, or a note where the wire does not use this template."""
        lowered = severity if self.name is None else Severity.NOTE
        return self.bench.found(code, claim, *evidence, severity=lowered)

    @cached_property
    def marks(self) -> frozenset[int]:
        """Ids that are no ordinary text: special and added tokens, and every stop."""
        return frozenset(self.tokenizer.added_tokens_decoder) | self.stops.anywhere

    @cached_property
    def turn_end(self) -> int | None:
        """The first mark after the assistant's text: of the last turn, else of a turn with another behind it."""
        for chat, until in (("question, answer", None), ("question, answer, question", SECOND)):
            _, found, after = (self.text(chat) or "").rpartition(ANSWER)
            closing = "" if not found else after.partition(until)[0] if until else after
            for i in self.encode(closing):
                if i in self.marks:
                    return i
        return None
