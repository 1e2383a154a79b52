"""Where generation stops: the end-of-sequence ids that config, generation config and tokenizer each name. No probe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from wirecheck.probe import ModelBench, Yielded
from wirecheck.probes.vocabulary import saw
from wirecheck.schema import Severity
from wirecheck.snapshot import JsonUnreadable, Snapshot

CONFIG, GENERATION = "config.json", "generation_config.json"


@dataclass(frozen=True)
class Stops:
    """The three sets of ids that could stop generation, and which one does."""

    config: frozenset[int]
    generation: frozenset[int] | None
    """None where there is no generation_config.json, or none that can be read."""
    tokenizer: frozenset[int]
    unknown: frozenset[int]
    """The unknown token's id, where it is not the tokenizer's EOS too."""
    unread: str = ""
    """Why generation_config.json cannot be read, where it is there and cannot."""
    fatal: bool = False
    """Whether transformers loads no model beside it: it is JSON, and no object. What is not JSON it passes over."""

    @property
    def used(self) -> frozenset[int]:
        """What `generate` stops at: generation_config.json alone where it can be read, even without the key."""
        return self.config if self.generation is None else self.generation

    @property
    def used_file(self) -> str:
        """The file that `used` comes from."""
        return CONFIG if self.generation is None else GENERATION

    @property
    def anywhere(self) -> frozenset[int]:
        """Every id that some set holds."""
        return self.config | (self.generation or frozenset()) | self.tokenizer


def read_stops(bench: ModelBench) -> Stops:
    """The stop sets of a model whose tokenizer loads."""
    eos = bench.tokenizer.eos_token_id
    unknown = ids_of(bench.tokenizer.unk_token_id) - ids_of(eos)
    if bench.snapshot.ref.kind == "gguf":  # its config is made by transformers from the file's metadata
        config = ids_of(getattr(bench.config, "eos_token_id", None))
        return Stops(config, None, ids_of(eos), unknown)
    generation, unread = _in_generation_config(bench.snapshot)
    fatal = bool(unread) and _is_json(bench.snapshot)
    return Stops(_in_config(bench.snapshot), generation, ids_of(eos), unknown, unread, fatal)


def stops_source(bench: ModelBench, stops: Stops) -> str:
    """Where the ids that generation stops at are read from."""
    return bench.snapshot.source(stops.used_file, "eos_token_id")


def compare_stops(bench: ModelBench, stops: Stops, turn_end: int | None) -> Iterator[Yielded]:
    """CFG09: generation must stop at the tokenizer's EOS and at what closes a turn; other differences are a trap."""
    evidence = [saw(stops_source(bench, stops), show_ids(stops.used), show_ids(stops.anywhere))]
    if stops.generation is not None:
        evidence.append(saw(bench.snapshot.source("config.json", "eos_token_id"), show_ids(stops.config)))
    evidence.append(saw("tokenizer.eos_token_id", show_ids(stops.tokenizer)))
    needed = stops.tokenizer | (frozenset() if turn_end is None else {turn_end})
    missing, used = needed - stops.used, show_ids(stops.used)
    if stops.unread:
        so = "transformers loads no model beside it" if stops.fatal else f"generation goes by {CONFIG} alone"
        claim = f"{GENERATION} cannot be read, and {so}: {stops.unread}."
        yield bench.found("CFG09", claim, saw(bench.snapshot.source(GENERATION), stops.unread, "a JSON object"))
    if not stops.used and not missing:
        claim = f"Generation stops at nothing, by {stops.used_file}, and neither tokenizer nor template has a stop."
        yield bench.found("CFG09", claim, *evidence)
    elif stops.unknown & stops.used:
        claim = f"Generation stops at the unknown token, {show_ids(stops.unknown)}: a stop string that the tokenizer "
        claim += "does not know was turned into it, and every unknown character now ends the answer."
        yield bench.found("CFG09", claim, *evidence, saw("tokenizer.unk_token_id", show_ids(stops.unknown)))
    elif missing:
        which = "the tokenizer's EOS" if missing & stops.tokenizer else "what closes the assistant's turn"
        at = f"at {used}" if stops.used else "at nothing"
        claim = f"Generation stops {at}, by {stops.used_file}, and not at {which}, {show_ids(missing)}."
        yield bench.found("CFG09", claim, *evidence)
    elif stops.anywhere == stops.tokenizer == stops.config == stops.used:
        named = "Config and tokenizer" if stops.generation is None else "Config, generation config and tokenizer"
        yield bench.ok("CFG09", f"{named} name the same stop: {used}.", *evidence)
    else:
        claim = (
            f"The stop sets differ, and the one that generation uses ({used}) holds every stop that the tokenizer and "
            f"the template write ({show_ids(needed)})."
        )
        yield bench.found("CFG09", claim, *evidence, severity=Severity.NOTE)


def ids_of(value: Any) -> frozenset[int]:
    """The ids in an `eos_token_id`, which is an id or a list of ids; anything else in it is no id."""
    values = value if isinstance(value, list | tuple) else [value]
    return frozenset(v for v in values if isinstance(v, int) and not isinstance(v, bool) and v >= 0)


def show_ids(ids: Iterable[int]) -> str:
    """Ids as a reader sees them: sorted, comma-joined, `none` for no id."""
    return ", ".join(str(i) for i in sorted(ids)) or "none"


def _in_config(snapshot: Snapshot) -> frozenset[int]:
    try:
        config = snapshot.read_json(CONFIG)
    except JsonUnreadable:
        return frozenset()
    text = config.get("text_config")
    nested = text.get("eos_token_id") if isinstance(text, dict) else None
    return ids_of(config.get("eos_token_id")) or ids_of(nested)


def _is_json(snapshot: Snapshot) -> bool:
    try:
        json.loads(snapshot.read_text(GENERATION))
    except (ValueError, RecursionError):
        return False
    return True


def _in_generation_config(snapshot: Snapshot) -> tuple[frozenset[int] | None, str]:
    """The ids, None where it is not there or cannot be read; and why it cannot."""
    if not snapshot.has(GENERATION):
        return None, ""
    try:
        return ids_of(snapshot.read_json(GENERATION).get("eos_token_id")), ""
    except JsonUnreadable as error:
        return None, str(error)
