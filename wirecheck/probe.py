"""What a probe is, and the bench it works on.

A probe answers one question about one subject. It is a generator: it yields findings and facts, and ends in one of
three ways: it returns (ran), raises `CannotRun` (skipped, with the reason) or raises anything else (crashed). What it
yielded before is kept in all three.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

from wirecheck.codes import CODES
from wirecheck.errors import whole_letters
from wirecheck.loan import Loan
from wirecheck.schema import (
    Evidence,
    Fact,
    Finding,
    Level,
    MemoryEstimate,
    Policy,
    Scalar,
    Severity,
    Subject,
    TrainSpec,
    WireSpec,
    strongest,
)
from wirecheck.snapshot import Snapshot
from wirecheck.vocabulary import normalise

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from wirecheck.zoo_twin import Twin

Yielded = Finding | Fact | MemoryEstimate
T = TypeVar("T")
MOST_LETTERS = 10_000
"""Of a claim, and of each text of its evidence."""


def _always(_wire: WireSpec, _policy: Policy) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One question, the codes that may answer it, and how far the answer reaches."""

    name: str
    question: str
    scope: Literal["model", "pair"]
    level: Level
    """The rung every claim of this probe stands on."""
    codes: tuple[str, ...]
    """Codes it may emit; another one makes the run a crash."""
    needs: Literal["files", "torch", "weights", "gpu"]
    """What it takes: `files` probes run without loading torch."""
    requires: tuple[str, ...] = ()
    """Probes (of the same subject, or of both models) that must have run."""
    moot_after: tuple[str, ...] = ()
    """Codes whose block leaves nothing to ask here."""
    run: Callable[..., Iterator[Yielded]]
    asked: Callable[[WireSpec, Policy], bool] = _always
    """Whether the question is asked at all: of two probes that answer one question, one is."""


def finding_of(
    subject: Subject,
    code: str,
    claim: str,
    *evidence: Evidence,
    severity: Severity | None = None,
    remedy: str | None = None,
) -> Finding:
    """A finding of `code` on that subject; severity and remedy are the table's unless said otherwise."""
    entry = CODES[code]
    severity = severity or entry.severity
    needed = severity in (Severity.WARN, Severity.BLOCK)
    return Finding(
        code=code,
        name=entry.name,
        severity=severity,
        subject=subject,
        claim=_cut(whole_letters(claim)),
        evidence=tuple(map(_cut_evidence, evidence)),
        remedy=(remedy or entry.remedy) if needed else remedy,
    )


def _cut(text: str) -> str:
    """What a stranger's files say at any length, a finding says up to a bound."""
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}… ({len(text):,} characters)"


def _cut_evidence(seen: Evidence) -> Evidence:
    held = {name: getattr(seen, name) for name in ("source", "observed", "expected")}
    cut = {name: _cut(value) for name, value in held.items() if isinstance(value, str)}
    return seen.model_copy(update=cut)


@dataclass
class _Bench(ABC):
    """What every probe gets: what the user asked for, and the way to write down what it saw."""

    wire: WireSpec
    train: TrainSpec
    policy: Policy
    seed: int

    @property
    @abstractmethod
    def subject(self) -> Subject:
        """Whom findings made on this bench speak of."""

    def found(
        self,
        code: str,
        claim: str,
        *evidence: Evidence,
        severity: Severity | None = None,
        remedy: str | None = None,
    ) -> Finding:
        """A finding of `code`; severity and remedy are the table's unless said otherwise."""
        return finding_of(self.subject, code, claim, *evidence, severity=severity, remedy=remedy)

    def ok(self, code: str, claim: str, *evidence: Evidence) -> Finding:
        """The check behind `code` was made and is sound: the claim says what holds."""
        return self.found(code, claim, *evidence, severity=Severity.OK)

    def fact(self, key: str, value: Scalar, level: Level, source: str) -> Fact:
        """One figure for the report."""
        return Fact(key=key, subject=self.subject, value=value, level=level, source=source)


@dataclass
class ModelBench(_Bench):
    """One model on the bench; what is costly is made on first use and kept."""

    side: Literal["a", "b"]
    snapshot: Snapshot
    facts: tuple[Fact, ...] = field(default=())
    """What earlier probes of this model established; the runner keeps it up to date."""
    loan: Loan | None = None
    """What other pairs of this model were lent in this process; None where nothing is kept."""

    @property
    def subject(self) -> Subject:
        """The side this model stands on."""
        return self.side

    @cached_property
    def config(self) -> PretrainedConfig:
        """The config as the installed transformers class reads it (loads torch)."""
        from wirecheck import zoo

        return zoo.load_config(self.snapshot, trust_remote_code=self.policy.trust_remote_code)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer as `AutoTokenizer` makes it from the snapshot's files (loads torch)."""
        return self._read("tokenizer", self._loaded_tokenizer)

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The tokenizer's own `get_vocab()`, asked once: it is made anew at each call. Only to be read."""
        return self._read("vocabulary", self.tokenizer.get_vocab)

    @cached_property
    def spelt(self) -> dict[bytes, int]:
        """The vocabulary by the bytes that each token stands for (`vocabulary.normalise`). Only to be read."""
        return self._read("spelt", lambda: normalise(self.vocabulary))

    @cached_property
    def skeleton(self) -> PreTrainedModel:
        """The real class at full shape on the meta device: names and shapes, no data."""
        return self._read("skeleton", self._built_skeleton)

    @cached_property
    def twin(self) -> Twin:
        """The same class, tiny, random, seeded, float32, frozen, in eval mode."""
        from wirecheck import zoo_twin

        def made() -> Twin:
            return zoo_twin.twin(self.config, seed=self.seed)

        return made() if self.loan is None else self.loan.copy(("twin", self.seed), made, of=lambda twin: twin.model)

    def cast(self, make: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        """What `make` gives, which is the untouched twin in the run's dtype."""
        if self.loan is None:
            return make()
        return self.loan.copy(("twin", self.seed, self.train.dtype), make, of=lambda model: model)

    @cached_property
    def weights(self) -> PreTrainedModel:
        """The real weights in the run's dtype, on the policy's device, frozen, in eval mode.

        CannotRun where they are not on disk or too large, or the device is not there.
        """
        from wirecheck import devices, zoo_weights

        return zoo_weights.load_weights(
            self.snapshot,
            dtype=self.train.dtype,
            trust_remote_code=self.policy.trust_remote_code,
            device=devices.choose(self.policy),
        )

    def _read(self, what: str, make: Callable[[], T]) -> T:
        return make() if self.loan is None else self.loan.read(what, make)

    def _loaded_tokenizer(self) -> PreTrainedTokenizerBase:
        from wirecheck import zoo

        return zoo.load_tokenizer(self.snapshot, trust_remote_code=self.policy.trust_remote_code)

    def _built_skeleton(self) -> PreTrainedModel:
        from wirecheck import zoo

        return zoo.skeleton(self.config)


@dataclass
class PairBench(_Bench):
    """Both models on the bench, for what only shows when they are wired together."""

    a: ModelBench
    b: ModelBench
    facts: tuple[Fact, ...] = field(default=())
    """Everything the model probes established, both sides."""

    @property
    def subject(self) -> Subject:
        """Findings here speak of the pair."""
        return "pair"

    def value(self, side: Literal["a", "b"], key: str) -> Scalar:
        """The strongest established value of a model's fact; None where no probe established it."""
        found = strongest(self.facts, side, key)
        return None if found is None else found.value
