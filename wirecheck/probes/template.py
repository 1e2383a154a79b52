"""What the chat template does with chats: every claim is read off rendered text and its ids, never off the template."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from wirecheck import templating
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.probes.chats import ANSWER, CHATS, FIRST, NEEDED, SECOND, SYSTEM, View
from wirecheck.probes.rows import embedding_rows
from wirecheck.probes.stops import compare_stops, read_stops, show_ids, stops_source
from wirecheck.probes.template_text import template_text
from wirecheck.probes.vocabulary import saw
from wirecheck.schema import Evidence, Finding, Level, Scalar, Severity
from wirecheck.snapshot import JsonUnreadable
from wirecheck.templating import Hostile, Outcome, Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHOWN = 60


def _run(bench: ModelBench) -> Iterator[Yielded]:
    tokenizer, stops = bench.tokenizer, read_stops(bench)
    names = _names(tokenizer)
    yield bench.fact("has_template", bool(names), Level.INSPECTED, "tokenizer.chat_template")
    stop_ids = show_ids(stops.used) if stops.used else None
    yield bench.fact("stop_ids", stop_ids, Level.INSPECTED, stops_source(bench, stops))
    if not names:
        claim = "The model has no chat template: this wire's anchor is plain text and needs none."
        yield bench.found("TPL01", claim, saw("tokenizer.chat_template", None), severity=Severity.NOTE)
        yield from compare_stops(bench, stops, None)
        return
    yield template_text(bench)
    held = sorted(tokenizer.chat_template) if isinstance(tokenizer.chat_template, dict) else ["default"]
    claim = f"The model has {len(held)} chat template{'s' if len(held) > 1 else ''}: {', '.join(held)}."
    yield bench.ok("TPL01", claim, saw("tokenizer.chat_template", ", ".join(held)))
    wanted = [replace(chat, name=_key(name, chat.name), template=name) for name in names for chat in CHATS]
    outcomes = templating.render(tokenizer, wanted)
    hostile = next(((chat, outcomes[chat]) for chat in outcomes if isinstance(outcomes[chat], Hostile)), None)
    if hostile is not None:
        yield _hostile(bench, *hostile)
        yield from compare_stops(bench, stops, None)
        return
    limits = templating.LIMITS
    bounds = f"{limits.cpu_s} s of CPU time, {limits.memory_bytes // 1024**2} MiB, {limits.output_chars:,} characters"
    claim = f"Every chat is rendered inside the sandbox and its bounds: {bounds}."
    yield bench.ok("TPL09", claim, saw("apply_chat_template, every chat", len(outcomes)))
    views = [
        View(bench, tokenizer, stops, name, {chat.name: outcomes[_key(name, chat.name)] for chat in CHATS})
        for name in names
    ]
    for view in views:
        for check in _CHECKS:
            yield from check(view)
    yield from _facts(views[0])
    yield from compare_stops(bench, stops, views[0].turn_end)


def _names(tokenizer: PreTrainedTokenizerBase) -> tuple[str | None, ...]:
    """The model's templates: None for the one used by default, then every other by its name."""
    templates = getattr(tokenizer, "chat_template", None)
    if isinstance(templates, dict):
        return (None, *sorted(name for name in templates if name != "default")) if templates else ()
    return (None,) if templates else ()


def _key(template: str | None, chat: str) -> str:
    return chat if template is None else f"{template}: {chat}"


def _hostile(bench: ModelBench, chat: str, outcome: Outcome) -> Finding:
    assert isinstance(outcome, Hostile)
    how = {
        "sandbox": "tries to leave the sandbox",
        "death": "kills the process that renders it",
        "recursion": "recurs without end",
    }
    what = how.get(outcome.bound, f"runs past its bound of {outcome.bound}")
    claim = f"The chat template {what} ({outcome.message}), rendering the chat: {chat}."
    return bench.found("TPL09", claim, saw(f"apply_chat_template({chat})", outcome.bound))


def _turns(view: View) -> Iterator[Yielded]:
    """TPL02: user and assistant turns render, in order."""
    refused = next(((chat, refusal) for chat in NEEDED if (refusal := view.refusal(chat))), None)
    if refused is not None:
        chat, refusal = refused
        line = "" if refusal.line is None else f" on line {refusal.line}"
        claim = f"{view.label} fails{line}: {refusal.type}: {refusal.message}"
        yield view.trap("TPL02", claim, view.saw(chat, refusal.type))
        return
    text = view.text("question, answer, question") or ""
    places = [text.find(turn) for turn in (FIRST, ANSWER, SECOND)]
    evidence = view.saw("question, answer, question", ", ".join(str(place) for place in places))
    if -1 in places:
        lost = ("first user", "assistant's", "last user")[places.index(-1)]
        yield view.trap("TPL02", f"{view.label} renders a chat without the text of its {lost} turn.", evidence)
    elif places != sorted(places):
        yield view.trap("TPL02", f"{view.label} renders the turns of a chat in another order.", evidence)
    else:
        yield view.bench.ok("TPL02", f"{view.label} renders user and assistant turns in their order.", evidence)
    opened = view.refusal("answer, question")
    if opened is not None:
        claim = (
            f'{view.label} refuses a chat that the assistant opens ("{opened.message}"): '
            "this wire's chats open with the user's turn."
        )
        yield view.trap("TPL02", claim, view.saw("answer, question", opened.type), severity=Severity.NOTE)


def _system(view: View) -> Iterator[Yielded]:
    """TPL03 and TPL04: what becomes of a system turn."""
    bench, chat, longer = view.bench, "system, question", "system, question, answer, question"
    refusal = view.refusal(chat)
    if refusal is not None:
        claim = f'{view.label} refuses a system turn ("{refusal.message}"): this wire\'s anchor has no system turn.'
        yield view.trap("TPL03", claim, view.saw(chat, refusal.type), severity=Severity.NOTE)
        return
    yield bench.ok("TPL03", f"{view.label} accepts a system turn.", view.saw(chat, "rendered"))
    text, long_text = view.text(chat) or "", view.text(longer) or ""
    if SYSTEM not in text:
        claim = f"{view.label} accepts a system turn and renders nothing of its text."
        yield view.trap("TPL04", claim, view.saw(chat, SYSTEM in text, True))
    elif -1 < long_text.find(ANSWER) < long_text.find(SYSTEM):
        claim = f"{view.label} puts the system text into the last user turn; this wire's anchor has no system turn."
        place = f"{long_text.find(SYSTEM)}, behind the answer at {long_text.find(ANSWER)}"
        yield view.trap("TPL04", claim, view.saw(longer, place), severity=Severity.NOTE)
    else:
        where = "ahead of the user's" if text.find(SYSTEM) < text.find(FIRST) else "behind the user's"
        claim = f"{view.label} renders the system text, {where}."
        yield bench.ok("TPL04", claim, view.saw(chat, text.find(SYSTEM)))


def _paths(view: View) -> Iterator[Yielded]:
    """TPL05 and TPL06: three ways from a chat to ids."""
    outcome = view.outcomes["anchor"]
    if not isinstance(outcome, Rendered) or outcome.ids is None:
        return
    bench, bos = view.bench, view.tokenizer.bos_token_id
    plain, by_default, direct = view.encode(outcome.text), view.encode(outcome.text, special=True), outcome.ids
    count = {name: _leading(ids, bos) for name, ids in (("plain", plain), ("default", by_default), ("direct", direct))}
    evidence = (
        saw("ids of encode(rendered chat), leading BOS", f"{len(by_default)}, {count['default']}"),
        saw("ids of encode(rendered chat, add_special_tokens=False), leading BOS", f"{len(plain)}, {count['plain']}"),
        saw("ids of apply_chat_template(tokenize=True), leading BOS", f"{len(direct)}, {count['direct']}"),
    )
    figures = f"{len(by_default)} ids against {len(plain)}"
    if count["direct"] > 1:
        claim = f"{view.label} itself begins with {count['direct']} BOS tokens."
        yield view.trap("TPL05", claim, *evidence)
    elif count["default"] > 1:
        claim = (
            f"Encoding a rendered chat with defaults gives {count['default']} BOS tokens, {figures}: "
            "this wire encodes rendered text with add_special_tokens=False."
        )
        yield view.trap("TPL05", claim, *evidence, severity=Severity.NOTE)
    else:
        once = "one BOS token" if count["default"] else "no BOS token"
        claim = f"Encoding a rendered chat with defaults gives {once}, {figures}."
        yield bench.ok("TPL05", claim, *evidence)
    if direct == plain:
        claim = f"apply_chat_template(tokenize=True) and encoding its text give the same {len(plain)} ids."
        yield bench.ok("TPL06", claim, *evidence[1:])
        return
    at = next((n for n, pair in enumerate(zip(direct, plain, strict=False)) if pair[0] != pair[1]), None)
    where = min(len(direct), len(plain)) if at is None else at
    claim = (
        f"apply_chat_template(tokenize=True) gives {len(direct)} ids and encoding its text {len(plain)}: "
        f"they part at position {where}."
    )
    yield view.trap("TPL06", claim, *evidence[1:])


def _leading(ids: tuple[int, ...], bos: int | None) -> int:
    """How many BOS a sequence begins with."""
    return next((n for n, i in enumerate(ids) if i != bos), len(ids))


def _prefixes(view: View) -> Iterator[Yielded]:
    """TPL07. A wire is one turn: the question must stay what it was when the answer is appended, the rest is a trap."""
    question, prompt, answered, longer = (view.text(chat) for chat in NEEDED[1:])
    if question is None or prompt is None or answered is None or longer is None:
        return
    if not answered.startswith(question):
        claim = f"{view.label} renders the user's turn in another way once the answer stands behind it."
        yield view.trap("TPL07", claim, *_parting(view, question, answered))
    elif not answered.startswith(prompt):
        claim = (
            f"{view.label} opens the assistant's turn in another way for generation than in a finished chat: "
            "this wire appends the answer's ids to the generation prompt and renders no finished chat."
        )
        yield view.trap("TPL07", claim, *_parting(view, prompt, answered), severity=Severity.NOTE)
    elif not longer.startswith(answered.rstrip()):
        claim = f"{view.label} rewrites the assistant's turn once another turn follows: this wire is a single turn."
        yield view.trap("TPL07", claim, *_parting(view, answered, longer), severity=Severity.NOTE)
    else:
        claim = f"{view.label} leaves earlier turns as they were when a turn is added."
        evidence = view.saw("question, answer, question", f"{len(answered.rstrip())} characters kept")
        yield view.bench.ok("TPL07", claim, evidence)


def _parting(view: View, shorter: str, longer: str) -> tuple[Evidence, Evidence]:
    """Where the longer text leaves the shorter."""
    at = next(
        (n for n, (x, y) in enumerate(zip(shorter, longer, strict=False)) if x != y), min(len(shorter), len(longer))
    )
    start = max(0, at - 10)
    return (
        view.saw("fewer turns", shorter[start : start + _SHOWN]),
        view.saw("more turns", longer[start : start + _SHOWN]),
    )


def _turn_end(view: View) -> Iterator[Yielded]:
    """TPL08: whether generation stops at what closes the assistant's turn."""
    if view.text("question, answer") is None:
        return
    end, chat = view.turn_end, "question, answer"
    known = show_ids(view.stops.used)
    if end is None:
        claim = f"{view.label} closes the assistant's turn with no token that could stop generation."
        yield view.trap("TPL08", claim, view.saw(chat, None, known))
    elif end not in view.stops.used:
        claim = (
            f"{view.label} closes the assistant's turn with {view.token(end)}, where generation does not stop, "
            f"by {view.stops.used_file} ({known})."
        )
        yield view.trap("TPL08", claim, view.saw(chat, end, known))
    else:
        claim = f"{view.label} closes the assistant's turn with {view.token(end)}, where generation stops."
        yield view.bench.ok("TPL08", claim, view.saw(chat, end, known))


def _clock(view: View) -> Iterator[Yielded]:
    """TPL10: the same chat on two days."""
    one, other = view.text("anchor"), view.text("anchor, another day") or ""
    if one is None:
        return
    if one == other:
        claim = f"{view.label} gives one text on two dates."
        yield view.bench.ok("TPL10", claim, view.saw("anchor, on 2024-07-26 and 2031-11-05", "equal"))
        return
    claim = f"{view.label} reads the clock: one chat gives two texts on two dates, so results do not repeat."
    seen = [
        view.saw(f"anchor, on {day}", evidence.observed)
        for day, evidence in zip(("2024-07-26", "2031-11-05"), _parting(view, one, other), strict=True)
    ]
    yield view.trap("TPL10", claim, *seen)


def _rows(view: View) -> Iterator[Yielded]:
    """TOK02 once more: whether a rendered chat reaches an id that has no row."""
    rows = embedding_rows(view.bench)
    texts = [text for chat in CHATS if (text := view.text(chat.name)) is not None]
    ids = {i for text in texts for i in view.encode(text)}
    if rows is None or not ids:
        return
    beyond = {i for i in ids if i >= rows.count}
    evidence = (
        saw("encode(every rendered chat): highest id", max(ids)),
        Evidence(level=rows.level, source=rows.source, observed=rows.count),
    )
    if not beyond:
        claim = f"Every id of {len(texts)} rendered chats has one of {rows.count:,} rows."
        yield view.bench.ok("TOK02", claim, *evidence)
        return
    first = view.token(min(beyond))
    declared = _declared_ids(view, beyond)
    if all(i is not None and i < rows.count for i in declared.values()):
        claim = (
            f"{view.label} writes {first}, past the {rows.count:,} rows, where tokenizer_config.json declares id "
            f"{declared[min(beyond)]}: the tokenizer class of the repository itself was not executed here."
        )
        yield view.trap("TOK02", claim, *evidence, severity=Severity.WARN)
    else:
        yield view.trap("TOK02", f"{view.label} writes {first}, and the embedding has {rows.count:,} rows.", *evidence)


def _declared_ids(view: View, ids: set[int]) -> dict[int, int | None]:
    """For each id as loaded: the id that tokenizer_config.json declares for its token, None where it declares none."""
    try:
        decoder = view.bench.snapshot.read_json("tokenizer_config.json").get("added_tokens_decoder")
    except JsonUnreadable:
        decoder = None
    entries = decoder.items() if isinstance(decoder, dict) else ()
    by_token = {t["content"]: int(i) for i, t in entries if i.isdecimal() and isinstance(t, dict) and "content" in t}
    return {i: by_token.get(str(view.tokenizer.convert_ids_to_tokens(i))) for i in ids}


def _facts(view: View) -> Iterator[Yielded]:
    """What the report says of the template used by default."""
    bench, text = view.bench, view.text("anchor")
    spoken = (
        ("system", SYSTEM, "system, question"),
        ("user", FIRST, "question"),
        ("assistant", ANSWER, "question, answer"),
    )
    roles = [role for role, sentence, chat in spoken if sentence in (view.text(chat) or "")]
    end = view.turn_end
    facts: dict[str, Scalar] = {
        "template_roles": ", ".join(roles),
        "template_reads_clock": text != view.text("anchor, another day"),
        "turn_end": None if end is None else str(view.tokenizer.convert_ids_to_tokens(end)),
        "adds_bos_in_template": text is not None and _leading(view.encode(text), view.tokenizer.bos_token_id) > 0,
    }
    for key, value in facts.items():
        yield bench.fact(key, value, Level.INSPECTED, "apply_chat_template")


_CHECKS: tuple[Callable[[View], Iterator[Yielded]], ...] = (
    _turns, _system, _paths, _prefixes, _turn_end, _clock, _rows,
)  # fmt: skip

TEMPLATE = Probe(
    name="template",
    question="Does the chat template render every turn, safely, the same each day, and end where generation stops?",
    scope="model",
    level=Level.INSPECTED,
    codes=(*(f"TPL{n:02}" for n in range(1, 11)), "CFG09", "TOK02"),
    needs="torch",
    requires=("tokenizer",),
    moot_after=("TOK01", "CFG01"),
    run=_run,
)
