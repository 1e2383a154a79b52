"""WIR12, WIR14, WIR15 in words: what stands before the answer, and what is generated from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wirecheck.errors import CannotRun
from wirecheck.probe import Yielded
from wirecheck.probes.wire_use_case import Case, letters
from wirecheck.probes.wiring import figure
from wirecheck.schema import Evidence, Finding, Severity

if TYPE_CHECKING:
    from wirecheck.wires.anchors import Joint, Lead
    from wirecheck.wires.contract import SideName, WiredModel
    from wirecheck.wires.decoding import Context, Decoded, Loop
    from wirecheck.wires.failure import StepFailed

TAIL = 12
"""Positions before the answer that are looked up in the table for every row but the first: the boundary is there."""
_CONTEXT = "Generate from the sequence that training uses: the same anchor, the same mask, the same positions."


# --- WIR12 -------------------------------------------------------------------------------------------------------


def generates(case: Case) -> Iterator[Yielded]:
    """WIR12."""
    from wirecheck.wires.contract import Generates
    from wirecheck.wires.decoding import by_generate, by_wire, run_loop
    from wirecheck.wires.failure import StepFailed

    case.must_repeat("whether generation from the prefix is sound")
    loop = run_loop(case.steady, case.samples) if isinstance(case.steady.wire, Generates) else None
    made: list[tuple[str, Decoded]] = []
    open_questions: list[str] = []
    for one in case.models:
        bare = _contexts(case, one.side)
        if bare is None:
            open_questions.append(f"generation of {one.side.upper()}: its loss rests on nothing that it says")
            continue
        contexts = _standing(case, one, bare)
        if loop is not None and contexts is not None:
            own = by_wire(one, loop, contexts, case.ends(one.side))
            made += [("own", decoded) for decoded in own]
        if contexts is None or contexts[0].around.caches:
            is_told = contexts is not None and loop is not None and one.side in loop.made
            untold = () if is_told else _bound(case, one, bare, loop, open_questions)
            yield from untold
        else:
            try:
                made.append(("generate", by_generate(one, contexts[0])))
            except StepFailed as failure:
                if failure.part != f"generate of {one.side}":
                    raise
                yield _refused(case, one, failure)
    yield from _decoded(case, made)
    if open_questions:
        raise CannotRun("; ".join(open_questions))


def _contexts(case: Case, side: SideName) -> list[Context] | None:
    from wirecheck.wires.decoding import context_of

    said = case.alone_said(side)
    if said is None:
        return None
    rows = enumerate(zip(case.alone, said, strict=True))
    return [context_of(seen.of(side), spoken, row) for row, (seen, spoken) in rows]


def _standing(case: Case, one: WiredModel, bare: list[Context]) -> list[Context] | None:
    """The contexts from which full forwards bring back what was said in training, by themselves or with what stands
    around them; None where they do not.
    """
    from wirecheck.wires.contract import Batch
    from wirecheck.wires.decoding import stands_alone, with_surroundings

    if stands_alone(one, bare[0]):
        return bare
    said = case.alone_said(one.side) or []
    rows = zip(bare, case.alone, said, *case.samples, strict=True)
    found = []
    for context, seen, spoken, source, answer in rows:
        call = seen.of(one.side)[int(spoken.call_N[0])]
        whole = with_surroundings(case.steady, one, Batch((source,), (answer,)), context, call)
        if whole is None:
            return None
        found.append(whole)
    return found


def _refused(case: Case, one: WiredModel, failure: StepFailed) -> Finding:
    kind, name = type(one.model).__name__, one.side.upper()
    claim = f"`generate` of {kind} takes no soft tokens: {name} needs a loop of its own (EMB04)."
    seen = case.ground.saw(failure.message, "tokens", of=f": {failure.part}")
    return case.bench.found("WIR12", claim, seen, severity=Severity.NOTE)


def _bound(
    case: Case, one: WiredModel, contexts: list[Context], loop: Loop | None, open_questions: list[str]
) -> Iterator[Finding]:
    """Of a model whose full forwards are not to be had: only the first new token can be told, and the rest is open."""
    name, context = one.side.upper(), contexts[0]
    wrong = [] if loop is None else [each.row for each in loop.begins_otherwise(one.side, contexts)]
    if not context.has_more:
        open_questions.append(f"generation of {name}: its context by itself does not bring it back")
    elif loop is not None and one.side in loop.made:
        open_questions.append(
            f"generation of {name}: with the keys and values it is handed, its context does not bring it back"
        )
    positions = case.ground.saw(len(context.embeds_CD), of=f": positions handed to {name} before the answer")
    if wrong:
        claim = (
            f"The first token that the wire's own loop gives for {name} is not the one that {name} says in training."
        )
        seen = case.ground.saw(f"row {wrong[0] + 1}", "none", of=f": first row of {name} that begins otherwise")
        yield case.bench.found("WIR12", claim, seen, positions, remedy=_CONTEXT)
    elif context.has_more:
        claim = (
            f"{name} is handed keys and values beside the embeddings: beyond the first new token, what is generated "
            "from them is not shown."
        )
        yield case.bench.found("WIR12", claim, positions, severity=Severity.NOTE)


def _decoded(case: Case, made: list[tuple[str, Decoded]]) -> Iterator[Finding]:
    for way, words in (("generate", "`model.generate`"), ("own", "the wire's own loop")):
        tried = [decoded for which, decoded in made if which == way]
        wrong = [decoded for decoded in tried if not decoded.is_same]
        for side in sorted({decoded.side for decoded in wrong}):
            yield _differs(case, words, [decoded for decoded in wrong if decoded.side == side])
        if tried and not wrong:
            sides = letters(sorted({decoded.side for decoded in tried}))
            claim = f"From the prefix of {sides}, {words} gives the tokens that full forwards give."
            worst = max(tried, key=lambda decoded: decoded.difference or 0.0)
            yield case.bench.ok("WIR12", claim, *_figures(case, worst))


def _differs(case: Case, words: str, wrong: list[Decoded]) -> Finding:
    worst = min(wrong, key=lambda decoded: (decoded.first_wrong is None, decoded.first_wrong or 0))
    name = worst.side.upper()
    remedy = None
    if worst.first_wrong == 0:
        claim = f"The first token that {words} gives for {name} is not the one that {name} says there in training."
        remedy = _CONTEXT
    elif worst.first_wrong is not None:
        claim = f"Token {worst.first_wrong + 1} that {words} gives for {name} is not the one that full forwards give."
    elif worst.ended_early:
        claim = f"The tokens that {words} gives for {name} end early, and not where {name} stops."
    else:
        claim = f"On the way of {words}, {name} says something else than in full forwards over the same tokens."
    return case.bench.found("WIR12", claim, *_figures(case, worst), remedy=remedy)


def _figures(case: Case, decoded: Decoded) -> Iterator[Evidence]:
    name = decoded.side.upper()
    expected = f"at most {decoded.allowed:.2g} ({decoded.rounding} at the largest log-probability)"
    row = f": row {decoded.row + 1} of {name}"
    of = f"{row}, {len(decoded.tokens)} new tokens, chosen below the largest log-probability by"
    yield case.ground.saw(figure(decoded.shortfall), expected, of=of)
    if decoded.difference is not None:
        of = f"{row}, largest difference of a log-probability, cached against full forwards"
        yield case.ground.saw(figure(decoded.difference), expected, of=of)


# --- WIR14, WIR15 ------------------------------------------------------------------------------------------------


def anchors(case: Case) -> Iterator[Yielded]:
    """WIR14 and WIR15."""
    open_questions: list[str] = []
    for one in case.models:
        leads = _leads(case, one)
        if leads is None:
            open_questions.append(
                f"what stands before the answer of {one.side.upper()}: no single tokens are asked for"
            )
            continue
        yield from _anchor(case, one, leads[0])
        found = _boundary(case, one, leads)
        if found is None:
            open_questions.append(f"{one.side.upper()}'s boundary: its anchor does not come back from its own text")
        else:
            yield found
    if open_questions:
        raise CannotRun("; ".join(open_questions))


def _leads(case: Case, one: WiredModel) -> list[Lead] | None:
    from wirecheck.wires.anchors import read_leads

    return read_leads(one, case.together.of(one.side), len(case.samples.sources), TAIL)


def _anchor(case: Case, one: WiredModel, lead: Lead) -> Iterator[Finding]:
    from wirecheck.wires.anchors import adds_bos, closed_by, num_bos

    name, tok, ends = one.side.upper(), one.tokenizer, case.ends(one.side)
    allowed = {int(adds_bos(tok)), int(case.bench.value(one.side, "adds_bos_in_template") is True)} - {0} or {0}
    if not adds_bos(tok):
        allowed |= {0}
    count = 0 if tok.bos_token_id is None else num_bos(lead, int(tok.bos_token_id), ends)
    closing = closed_by(tok, lead, ends)
    shown = " ".join("…" if i < 0 else str(tok.convert_ids_to_tokens(i)) for i in _folded(lead.before))
    seen = (
        case.ground.saw(count, " or ".join(map(str, sorted(allowed))), of=f": BOS tokens before {name}'s answer"),
        case.ground.saw(shown, of=f": what {name} is handed before its answer, soft tokens as …"),
    )
    if count == 1 and allowed == {0}:  # GPT-2, Pythia, Bloom: trained with it between documents
        claim = f"Before its answer {name} is handed one BOS, which its tokenizer does not put before plain text."
        yield case.bench.found("WIR14", claim, *seen, severity=Severity.NOTE)
    elif count not in allowed:
        how = (
            "its tokenizer puts one before plain text" if adds_bos(tok) else "its tokenizer puts none before plain text"
        )
        yield case.bench.found("WIR14", f"Before its answer {name} is handed {_times(count)}; {how}.", *seen)
    if closing is not None:
        token = f"{tok.convert_ids_to_tokens(closing)} ({closing})"
        yield case.bench.found(
            "WIR14", f"The anchor of {name} ends the turn, with {token}, before the answer begins.", *seen
        )
    if count in allowed and closing is None:
        claim = f"Before its answer {name} is handed {_times(count)}, and no turn is ended there."
        yield case.bench.ok("WIR14", claim, *seen)


def _folded(ids: tuple[int, ...]) -> list[int]:
    """One -1 for each run of soft tokens."""
    return [i for n, i in enumerate(ids) if i >= 0 or n == 0 or ids[n - 1] >= 0]


def _times(count: int) -> str:
    return "no BOS" if count == 0 else "one BOS" if count == 1 else f"{count} BOS tokens"


def _boundary(case: Case, one: WiredModel, leads: list[Lead]) -> Finding | None:
    from wirecheck.wires.anchors import joint

    name, ends = one.side.upper(), case.ends(one.side)
    found = [joint(one.tokenizer, lead, ends) for lead in leads]
    told: list[Joint] = [each for each in found if each is not None]
    if not told:
        return None
    wrong = [each for each in told if not each.is_same]
    evidence = [
        case.ground.saw(_tokens(one, each.used), _tokens(one, each.encoded), of=f": {name}'s tokens of {each.text!r}")
        for each in wrong or told[:1]
    ]
    if wrong:
        rows = f"{len(wrong)} of {len(told)} rows"
        claim = f"Where the answer begins, {rows} of {name} have other tokens than their text has."
        return case.bench.found("WIR15", claim, *evidence)
    if all(len(each.used) < 2 for each in told):  # noqa: PLR2004  # one token on each side
        return case.bench.ok("WIR15", f"No text stands before {name}'s answer that could merge with it.", *evidence)
    claim = f"Anchor and answer of {name} are the tokens that their text has when it is encoded as one."
    return case.bench.ok("WIR15", claim, *evidence)


def _tokens(one: WiredModel, ids: tuple[int, ...]) -> str:
    return " ".join(str(token) for token in one.tokenizer.convert_ids_to_tokens(list(ids)))
