"""What a matrix keeps, by content: each model's runs and sketch, each pair that was run, what vocabularies share.

All of it lies in the user's store. What may not lie there (a probe that crashed, a wire of the user's own) and what the
store does not take (a disk that is full, a folder that is read-only) is kept in memory, for this run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wirecheck.gate_shelf import RUNS, Shelf, read_as
from wirecheck.matrix_records import MatrixCell
from wirecheck.matrix_work import JudgedPair, Pair, PairRuns, ProbedModel
from wirecheck.runner import Request
from wirecheck.schema import Level
from wirecheck.sketch import Sketch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1
"""Of sketches and cells: another number, other keys."""
MOST_VOCABULARIES = 48
"""Held in memory at a time; one of 250,000 tokens takes 2 MB."""
Row = tuple[str, str, str]
"""Key, kind, text."""


@dataclass
class MatrixShelf:
    """Answers of one request."""

    shelf: Shelf
    request: Request
    is_elsewhere: bool = False
    """Whether probes run on machines whose devices are in no key: then nothing that may depend on them is kept."""
    keys: dict[str, str] = field(default_factory=dict)
    """Model's name -> the key of its bytes and of what is asked."""
    passing: set[str] = field(default_factory=set)
    """Models some probe of which might end otherwise the next time: what rests on them is not kept."""
    _memory: dict[str, bytes] = field(default_factory=dict)
    _vocabularies: dict[str, NDArray[np.uint64]] = field(default_factory=dict)

    # --- models -----------------------------------------------------------------------------------------------------

    def sketch(self, name: str) -> Sketch | None:
        """That of a model, where its runs are there, too."""
        return read_as(self._taken(f"{self.keys[name]}/sketch/{FORMAT}"), Sketch.model_validate_json)

    def runs(self, name: str) -> str | None:
        """What its probes came to, as JSON."""
        return self._text(self.keys[name])

    def keep_model(self, key: str, found: ProbedModel) -> None:
        """Put there what the probes of the model of that key came to."""
        rows = [
            (key, "model", RUNS.dump_json(found.runs).decode()),
            (f"{key}/sketch/{FORMAT}", "sketch of a model", found.sketch.model_dump_json()),
        ]
        self._put(rows, keeps=found.is_final and not self._is_of_a_device)
        if found.vocabulary is not None:
            self._put([(f"vocabulary/{found.sketch.vocabulary}", "vocabulary", found.vocabulary)], keeps=True)

    # --- pairs ------------------------------------------------------------------------------------------------------

    def pair_key(self, pair: Pair) -> str:
        """Of all that the pair's cell depends on."""
        told = [FORMAT, *(self.keys[name] for name in pair), self.request.policy.model_dump(mode="json")]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:40]

    def cells(self, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, MatrixCell]]:
        """Those that were run before."""
        if not self._may_take:
            return
        names: dict[str, list[Pair]] = {}  # two names may stand for one model
        for pair in pairs:
            if self.passing.isdisjoint(pair):
                names.setdefault(f"{self.pair_key(pair)}/cell", []).append(pair)
        for key, text in self.shelf.store.get_many(names):
            found = read_as(text, MatrixCell.model_validate_json)
            if found is None:
                continue
            for a, b in names[key]:
                yield (a, b), found.model_copy(update={"a": a, "b": b, "kept": True})

    def pair_runs(self, pair: Pair) -> PairRuns | None:
        """What the pair's own probes came to."""
        return read_as(self._text(f"{self.pair_key(pair)}/runs"), PairRuns.model_validate_json)

    def keep_pairs(self, found: Iterable[JudgedPair]) -> None:
        """Put there what pairs came to, all at once."""
        final: list[Row] = []
        others: list[Row] = []
        for one in found:
            key = self.pair_key((one.cell.a, one.cell.b))
            lasts = one.is_final and self.passing.isdisjoint((one.cell.a, one.cell.b))
            rows = final if lasts and not self._is_of_a_device else others
            rows.append((f"{key}/cell", "cell of a matrix", one.cell.model_dump_json()))
            rows.append((f"{key}/runs", "pair of a matrix", one.own.model_dump_json()))
        self._put(final, keeps=True)
        self._put(others, keeps=False)

    # --- vocabularies -------------------------------------------------------------------------------------------------

    def shared(self, digest: str) -> dict[str, int]:
        """Digests of other vocabularies -> texts that are in both."""
        text = self._taken(f"shared/{digest}")
        return {} if text is None else {str(other): int(count) for other, count in json.loads(text).items()}

    def keep_shared(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Put there what vocabularies share, by the first one's digest."""
        rows = [(f"shared/{one}", "shared tokens", json.dumps(others)) for one, others in counts.items()]
        self._put(rows, keeps=True)

    def fingerprints(self, digest: str) -> NDArray[np.uint64]:
        """(num_texts,) uint64, ascending. Raises LookupError where they are gone."""
        if digest not in self._vocabularies:
            text = self._text(f"vocabulary/{digest}")
            if text is None:
                raise LookupError(digest)
            import numpy as np

            while len(self._vocabularies) >= MOST_VOCABULARIES:
                del self._vocabularies[next(iter(self._vocabularies))]
            self._vocabularies[digest] = np.frombuffer(base64.b64decode(text), dtype="<u8")
        return self._vocabularies[digest]

    # --- inside -------------------------------------------------------------------------------------------------------

    def _taken(self, key: str) -> str | None:
        """An earlier run's answer, where it may stand."""
        return self._text(key) if self._may_take else None

    @property
    def _may_take(self) -> bool:
        return self.shelf.may_take(self.request) and not self._is_of_a_device

    @property
    def _is_of_a_device(self) -> bool:
        """Whether real weights run on another machine than the one whose devices the keys tell."""
        return self.is_elsewhere and self.request.policy.depth.rank > Level.SIMULATED.rank

    def _text(self, key: str) -> str | None:
        if key in self._memory:
            return zlib.decompress(self._memory[key]).decode()
        return self.shelf.store.get(key)

    def _put(self, rows: Sequence[Row], *, keeps: bool) -> None:
        if keeps and not self.request.wire.is_own and (not rows or self.shelf.store.put_many(rows)):
            for key, _, _ in rows:
                self._memory.pop(key, None)
            return
        self._memory |= {key: zlib.compress(text.encode(), 1) for key, _, text in rows}
