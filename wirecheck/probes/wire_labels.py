"""What the loss asks each model for, in words: labels shifted once (WIR06), which spell the answer (WIR17)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wirecheck.probe import PairBench
from wirecheck.probes.wiring import Ground, figure, some
from wirecheck.schema import Evidence, Finding, Level, Severity

if TYPE_CHECKING:
    from torch import Tensor

    from wirecheck.wires.alignment import Handed, Shift, Sighting
    from wirecheck.wires.contract import Batch, WiredModel
    from wirecheck.wires.spelling import Line, Speller
    from wirecheck.wires.targets import Asked
    from wirecheck.wires.watch import Call, Observation

_SAME = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 2e-3}
"""Relative difference of a loss and of the same recomputed in float32, where a class rounds it in its own dtype."""
_MASK = "Set the labels of padded positions to -100; keep the one stop token that ends the answer."
_LEAD = "Set the labels of everything before the answer to -100, unless the model is to learn that text as well."
_CUT = "Label every token of the answer and its stop token, up to the length that `--answer` allows."
_SHIFT = "Shift once: the logits at t against the token at t + 1. A model that is given `labels=` does so itself."


@dataclass(frozen=True, eq=False)
class Side:
    """One model's part of the step: its forwards, and the tokens that each was handed."""

    one: WiredModel
    calls: tuple[Call, ...]
    handed: tuple[Handed, ...]
    ends: frozenset[int]
    """Ids of stop and padding tokens."""
    is_passed: bool = False
    """Whether the loss depends on it otherwise than by the logits that either model gives."""

    @property
    def letter(self) -> str:
        """`A` or `B`."""
        return self.one.side.upper()

    def soft_rows(self) -> list[Tensor]:
        """The soft tokens of each row of the first forward."""
        from wirecheck.wires.alignment import soft_rows

        return soft_rows(self.calls[0], self.handed[0])

    @property
    def asked(self) -> dict[str, list[Asked]]:
        """By term of the loss: what it asks of each forward that it asks anything of."""
        found: dict[str, list[Asked]] = {}
        for call in self.calls:
            for term, asked in call.asked.items():
                if len(asked.at_N):
                    found.setdefault(term, []).append(asked)
        return found

    @property
    def is_silent(self) -> bool:
        """Whether its logits are there and the loss asks nothing of it: it reads, and another model answers."""
        return not self.is_passed and self.is_unasked

    @property
    def is_unasked(self) -> bool:
        """Whether its logits are there and nothing is asked of them."""
        return not self.asked and all(len(call.at_K) for call in self.calls)

    def shifts(self) -> dict[str, tuple[Shift, list[Sighting]]]:
        """By term that asks for single tokens: what they say together, and each of them."""
        from wirecheck.wires.alignment import shift_of

        terms = {term: [one for _, found in self.seen(term) for one in found] for term in self.asked}
        return {term: (shift_of(found), found) for term, found in terms.items() if found}

    @property
    def is_untold(self) -> bool:
        """Whether no term tells one shift from another."""
        return all(shift.name == "UNTOLD" for shift, _ in self.shifts().values())

    def seen(self, term: str) -> list[tuple[int, tuple[Sighting, ...]]]:
        """The single tokens that one term asks for, by number of the forward."""
        from wirecheck.wires.alignment import sightings

        pairs = enumerate(zip(self.calls, self.handed, strict=True))
        return [(n, sightings(call, term, ids, self.ends)) for n, (call, ids) in pairs if term in call.asked]


def read_side(one: WiredModel, seen: Observation) -> Side | None:
    """What one model was handed in a step; None where no gradient comes back through it, as through a sender."""
    from wirecheck.wires.alignment import read_handed

    calls = seen.of(one.side)
    return Side(one, calls, read_handed(one, calls), _ends(one)) if calls else None


def _ends(one: WiredModel) -> frozenset[int]:
    generation, tok = getattr(one.model, "generation_config", None), one.tokenizer
    ids = [tok.eos_token_id, tok.pad_token_id]
    for held in (getattr(generation, "eos_token_id", None), one.model.config.get_text_config().eos_token_id):
        ids += held if isinstance(held, list | tuple) else [held]
    return frozenset(id_ for id_ in ids if isinstance(id_, int))


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of one model in one step, to be judged."""

    bench: PairBench
    side: Side
    seen: Observation
    ground: Ground

    # --- WIR06 ---------------------------------------------------------------------------------------------------

    def aligned(self) -> Iterator[Finding]:
        """One finding where every term of the loss is aligned, else one for each that is not."""
        from wirecheck.wires.alignment import Shift

        shifts = self.side.shifts()
        sound = [term for term, (shift, _) in shifts.items() if shift in (Shift.ONCE, Shift.PAST)]
        wrong = [term for term, (shift, _) in shifts.items() if shift not in (Shift.ONCE, Shift.PAST, Shift.UNTOLD)]
        for term in wrong:
            shift, found = shifts[term]
            claim, remedy = self._fault(term, shift, found)
            is_extra = shift is Shift.OTHER and bool(sound)  # a teacher's choice, beside the answer's own loss
            severity = Severity.WARN if is_extra else Severity.BLOCK
            evidence = (*self._sightings(found), *self._values(term))
            yield self.bench.found("WIR06", claim, *evidence, severity=severity, remedy=remedy)
        if not wrong:
            told = [one for term in sound for one in shifts[term][1]]
            evidence = tuple(each for term in sound for each in self._values(term))
            yield self._sound(told, evidence) if told else self._untold()

    def _sound(self, told: Sequence[Sighting], evidence: Sequence[Evidence]) -> Finding:
        letter, total = self.side.letter, len(told)
        past = sum(1 for one in told if one.is_past)
        what = f": of {total} tokens asked of {letter}, those that are the token handed next, or stand at the end"
        if past == total:
            claim = (
                f"All {past} tokens that the loss asks of {letter} stand past the end of what is handed: nothing "
                "handed contradicts them."
            )
        else:
            tail = f" ({past} of them past the end of what is handed)" if past else ""
            claim = (
                f"Each of the {total} tokens{tail} that the loss asks of {letter} is the one handed next: the labels "
                "are shifted once."
            )
        return self.bench.ok("WIR06", claim, self.ground.saw(total, total, of=what), *evidence)

    def _fault(self, term: str, shift: Shift, found: Sequence[Sighting]) -> tuple[str, str | None]:
        """The claim, and a remedy where the table's does not fit."""
        from wirecheck.wires.alignment import Shift, odd

        letter = self.side.letter
        loss = "loss" if term in ("", "loss", self.side.one.side) else f"term `{term}` of the loss"
        count = f"{len(odd(found))} of the {len(found)} tokens that the {loss} asks of {letter}"
        match shift:
            case Shift.TWICE:
                return f"The {loss} asks {letter} for the token after the next: its labels are shifted twice.", None
            case Shift.UNSHIFTED:
                return f"The {loss} asks {letter} for the token it was just handed: nothing is shifted.", _SHIFT
            case Shift.PADDING:
                return f"{count} are padding: masked positions, or stop tokens after the answer's own.", _MASK
            case Shift.SOFT:
                return f"{count} stand where a soft token is handed next: labels lie on the prefix.", None
            case _:
                return f"{count} are not the token handed next.", None

    def _sightings(self, found: Sequence[Sighting]) -> Iterator[Evidence]:
        from wirecheck.wires.alignment import odd

        wrong = odd(found)
        what = f": tokens asked of {self.side.letter} that are the token handed next, read from d loss / d logits"
        yield self.ground.saw(len(found) - len(wrong), len(found), of=what)
        one = wrong[0]
        where = f": the first of the others, in row {one.row + 1} at position {one.position}"
        handed = "a soft token" if one.near[1] == -1 else "the end" if one.near[1] is None else self._token(one.near[1])
        yield self.ground.saw(f"asked for {self._token(one.token)}", f"handed next: {handed}", of=where)

    def _token(self, id_: int) -> str:
        return f"{id_} {self.side.one.tokenizer.decode([id_])!r}"

    def _values(self, term: str) -> Iterator[Evidence]:
        """The term beside an independent float32 next-token loss on the same tokens; and that of one shift more."""
        parts, side, losses = self.side.asked[term], self.side, self.seen.losses
        own = sum(asked.value for asked in parts)
        name = term or side.one.side
        is_own = term == "" or all(call.side == side.one.side for call in self.seen.calls if term in call.asked)
        if name in losses and is_own and all(bool(asked.hard_N.all()) for asked in parts):
            loss, slack = float(losses[name]), _SAME[str(side.calls[0].embeds_BSD.dtype).removeprefix("torch.")]
            if math.isclose(loss, own, rel_tol=slack):
                within = f"against float32 log-softmax, within a relative {slack:.0e}"
                yield self.ground.saw(figure(loss), figure(own), of=f": loss `{name}`, {within}")
            else:
                words = "which is other or more than cross-entropy on these tokens"
                yield self.ground.saw(figure(loss), of=f": loss `{name}`, {words}")
        weight = sum(float(asked.weight_N[asked.hard_N].sum()) for asked in parts)
        early = sum(float((asked.weight_N * asked.early_N)[asked.hard_N].nansum()) for asked in parts)
        of = f": mean -log p of the tokens asked of {side.letter}"
        yield self.ground.saw(figure(own / weight), of=of)
        yield self.ground.saw(figure(early / weight), of=f"{of}, read one position earlier, as a second shift would")

    def _untold(self) -> Finding:
        rows = sum(len(asked.at_N) for parts in self.side.asked.values() for asked in parts)
        what = (
            f"{rows} rows of logits have a gradient, and no single token among them tells one shift from another"
            if rows
            else "no gradient comes back to logits that its head gave"
        )
        claim = f"Which tokens the loss asks of {self.side.letter} cannot be told: {what}."
        severity = Severity.WARN if self.ground.level.rank >= Level.EXECUTED.rank else Severity.NOTE
        if self.side.is_passed:  # a penalty on its states may be all there is
            name, severity = self.side.letter, Severity.NOTE
            claim = (
                f"Whether the loss asks {name} for tokens cannot be told: it depends on {name} otherwise than by the "
                "logits that the models give."
            )
        remedy = "Take the loss from the logits of the model's own forward, so that its targets can be read."
        evidence = self.ground.saw(rows, of=f": rows of {self.side.letter}'s logits with a gradient")
        return self.bench.found("WIR06", claim, evidence, severity=severity, remedy=remedy)

    # --- WIR17 ---------------------------------------------------------------------------------------------------

    def spelled(self, batch: Batch, sources_of: Callable[[Side], list[int]]) -> Iterator[Finding]:
        """Whether the tokens asked for are each row's answer; of terms that are aligned, as far as can be told.

        `sources_of` tells whose source each row was made of; asked where rows seem to be in another order.
        """
        from wirecheck.wires.alignment import Shift
        from wirecheck.wires.spelling import Speller

        side, answers = self.side, batch.answers
        speller = Speller(side.one, answers, side.ends)
        lines: list[tuple[Line, bool]] = []
        aligned = (Shift.ONCE, Shift.PAST, Shift.UNTOLD)
        for term in (term for term, (shift, _) in side.shifts().items() if shift in aligned):
            for n, found in side.seen(term):
                in_order = side.handed[n].ids_BS.shape[0] == len(answers)
                lines += [(line, in_order) for line in speller.lines(found, side.handed[n])]
        wrong = [line for line, in_order in lines if line.answer is None or (in_order and line.answer != line.row)]
        if wrong and all(line.answer is not None for line in wrong):
            sources = sources_of(side)  # a wire may sort its rows, if it sorts sources and answers alike
            wrong = [line for line in wrong if line.answer != sources[line.row]]
        if wrong:
            yield self._other_words(wrong, answers)
        elif lines:
            yield from self._own_words([line for line, _ in lines], batch, speller)

    def _own_words(self, lines: Sequence[Line], batch: Batch, speller: Speller) -> Iterator[Finding]:
        letter, answers = self.side.letter, batch.answers
        is_whole = len({line.answer for line in lines if line.is_whole}) == len(answers)
        texts = some(list(dict.fromkeys(repr(line.text) for line in lines if line.text)), 3)
        heard = self.ground.saw(texts, some([repr(a) for a in answers], 3), of=f": tokens asked of {letter}, decoded")
        reach = "whole" if is_whole else "as far as they go"
        claim = f"The tokens asked of {letter} spell each row's answer, {reach}, by {letter}'s own tokenizer."
        yield self.bench.ok("WIR17", claim, heard)
        yield from self._before(lines, batch.sources)
        yield from self._short(lines, speller)
        has_room = [line for line in lines if not line.is_past and self._most(line, speller) < self.bench.train.answer]
        has_stop = self.side.one.tokenizer.eos_token_id is not None
        if has_stop and has_room and not any(line.ends for line in lines):
            what = "for whole answers and never for a stop token after them" if is_whole else "for no stop token"
            claim = f"{letter} is asked {what}: it learns no end."
            yield self.bench.found("WIR17", claim, heard, severity=Severity.NOTE)

    def _before(self, lines: Sequence[Line], sources: Sequence[str]) -> Iterator[Finding]:
        """Where the loss asks for text before the answer too."""
        from wirecheck.wires.spelling import is_of_a_source

        letter, told = self.side.letter, [line for line in lines if line.num_before]
        if not told:
            return
        of_source = [line for line in told if is_of_a_source(line.before, sources)]
        line, total = (of_source or told)[0], sum(line.num_before for line in told)
        what = "the source's text among them" if of_source else "none of them the source's"
        claim = f"The loss also asks {letter} for {total} tokens of text before the answers, {what}."
        answer = sum(line.num_asked for line in told)
        heard = self.ground.saw(line.before[-80:], of=f": such tokens asked of {letter} in row {line.row + 1}, decoded")
        count = self.ground.saw(total, answer, of=f": tokens asked of {letter} before the answers, and of the answers")
        severity = Severity.WARN if of_source else Severity.NOTE
        yield self.bench.found("WIR17", claim, heard, count, severity=severity, remedy=_LEAD)

    def _most(self, line: Line, speller: Speller) -> int:
        """Tokens of that line's answer that the run allows."""
        return 0 if line.answer is None else min(speller.needed(line.answer), self.bench.train.answer)

    def _short(self, lines: Sequence[Line], speller: Speller) -> Iterator[Finding]:
        """Where answers are cut though the run allows more; not of losses on the first tokens alone."""
        whole = {line.answer for line in lines if line.is_whole}
        cut = {
            line.answer: line
            for line in sorted(lines, key=lambda line: line.num_asked)
            if not line.is_past and line.answer not in whole and line.num_asked < self._most(line, speller)
        }
        if not cut:
            return
        letter, asked = self.side.letter, sum(line.num_asked for line in cut.values())
        needed = sum(self._most(line, speller) for line in cut.values())
        claim = f"Of {len(cut)} answers the loss asks {letter} for {asked} of {needed} tokens: the rest is not learned."
        what = f": tokens asked of {letter} in answers of which not all are, at most {self.bench.train.answer} each"
        yield self.bench.found(
            "WIR17", claim, self.ground.saw(asked, needed, of=what), severity=Severity.NOTE, remedy=_CUT
        )

    def _other_words(self, wrong: Sequence[Line], answers: Sequence[str]) -> Finding:
        line, letter = wrong[0], self.side.letter
        row = line.row % len(answers)
        what = f": tokens asked of {letter} in row {row + 1}, decoded"
        evidence = self.ground.saw(line.text[:80], answers[row], of=what)
        if all(one.answer is not None for one in wrong) and line.answer is not None:
            claim = f"Row {row + 1} of {letter} is asked for the answer of row {line.answer + 1}."
            remedy = "Keep sources and answers in one order: the prefix of a row is made of that row's source."
            return self.bench.found("WIR17", claim, evidence, remedy=remedy)
        rows = len({one.row for one in wrong})
        claim = f"In {rows} rows the tokens asked of {letter} do not decode to the answer, nor to its beginning."
        return self.bench.found("WIR17", claim, evidence)
