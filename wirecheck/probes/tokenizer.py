"""What the tokenizer does with text and with its special tokens: all is encoded, decoded or padded to be seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, Probe, Yielded
from wirecheck.probes.stops import read_stops, show_ids
from wirecheck.probes.vocabulary import ROLES, SHOWN, TEXTS, WORD, Vocabulary, saw, show_list
from wirecheck.schema import Evidence, Level, Scalar, Severity
from wirecheck.snapshot import JsonUnreadable, Snapshot

_SPARE = ("pad", "reserved", "unused", "extra", "control")
"""What makers call tokens that text never uses; the sooner named, the better as a pad token."""
_VOCABULARIES = ("tokenizer", "vocab", "merges", "spiece", "sentencepiece", "tekken", "tiktoken")
_NO_PAD_NEEDED = "this wire masks padded positions and never looks a pad token up"


def _run(bench: ModelBench) -> Iterator[Yielded]:
    from wirecheck.zoo import Unloadable, Withheld

    try:
        tokenizer = bench.tokenizer
    except Withheld:
        raise
    except Unloadable as error:
        claim = f"The tokenizer cannot be built from the model's files: {error.reason}"
        yield bench.found("TOK01", claim, _files(bench.snapshot))
        return
    subject = Vocabulary(bench, tokenizer)
    seen = {i for i in subject.sampled if i != subject.id("unk")}
    if not seen:
        claim = f"The tokenizer was built without its vocabulary: {len(subject.vocabulary)} tokens, none for any text."
        shown = saw(f'encode("{WORD}")', show_list(subject.encode(WORD)))
        yield bench.found("TOK01", claim, shown, _files(bench.snapshot))
        return
    claim = f"The tokenizer loads as {type(tokenizer).__name__} and encodes text."
    yield bench.ok("TOK01", claim, saw(f'encode("{WORD}")', show_list(subject.encode(WORD))))
    for check in (_facts, _no_eos, _bos, _no_pad, _pad_is_eos, _splits, _round_trip, _collisions):
        yield from check(subject)
    yield from _rows(subject)


def _file(snapshot: Snapshot) -> str:
    """Where a tokenizer's figures are read from."""
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        if snapshot.has(name):
            return snapshot.source(name)
    return snapshot.source(snapshot.ref.name)


def _files(snapshot: Snapshot) -> Evidence:
    """Which of the files that a vocabulary can come from are there."""
    there = [name for name in snapshot.files if name.startswith(_VOCABULARIES)]
    return saw(snapshot.source("files"), ", ".join(sorted(there)) or "none", "tokenizer.json or tokenizer.model")


def _facts(subject: Vocabulary) -> Iterator[Yielded]:
    bench, source = subject.bench, _file(subject.bench.snapshot)
    bos = subject.id("bos")
    facts: dict[str, Scalar] = {
        "num_tokens": subject.num_tokens,
        "bos_token": subject.token("bos"),
        "bos_id": bos,
        "adds_bos": bos is not None and bos in (subject.in_front() or []),
        "eos_token": subject.token("eos"),
        "eos_id": subject.id("eos"),
        "pad_token": subject.token("pad"),
        "pad_id": subject.id("pad"),
        "tokenizer_class": type(subject.tokenizer).__name__,
    }
    for key, value in facts.items():
        yield bench.fact(key, value, Level.INSPECTED, f'encode("{WORD}")' if key == "adds_bos" else source)


def _no_eos(subject: Vocabulary) -> Iterator[Yielded]:
    bench, stops = subject.bench, read_stops(subject.bench)
    in_configs = stops.config | (stops.generation or frozenset())
    evidence = (
        saw("tokenizer.eos_token", subject.token("eos")),
        saw("config.json, generation_config.json: eos_token_id", show_ids(in_configs)),
    )
    if not stops.anywhere:
        yield bench.found("TOK03", "Neither tokenizer, config nor generation config names an EOS token.", *evidence)
    elif not stops.tokenizer:
        claim = f"The tokenizer names no EOS token, and the configs do: {subject.show(stops.anywhere)}."
        yield bench.ok("TOK03", claim, *evidence)
    else:
        yield bench.ok("TOK03", f"The tokenizer has an EOS token: {subject.show(stops.tokenizer)}.", *evidence)


def _bos(subject: Vocabulary) -> Iterator[Yielded]:
    """TOK04 says what there is, TOK07 whether plain encoding keeps to it."""
    bench, bos, front = subject.bench, subject.id("bos"), subject.in_front()
    evidence = saw(f'encode("{WORD}")', show_list(subject.encode(WORD, special=True)))
    declared = _declares_bos(bench.snapshot)
    if bos is None:
        named = _config_id(subject, "bos_token_id")
        although = "" if named is None else f", although config.json names {subject.show([named])}"
        claim = f"The tokenizer has no BOS token{although}: the wire's anchor must not assume one, and starts without."
        yield bench.found("TOK04", claim, saw("tokenizer.bos_token", None), evidence)
    elif front == [] and not declared:
        claim = (
            f"Encoding adds no BOS, although the tokenizer has one, {subject.show([bos])}: "
            "the wire's anchor must not assume one."
        )
        yield bench.found("TOK04", claim, evidence)
    else:
        yield bench.ok("TOK04", f"The tokenizer has a BOS token: {subject.show([bos])}.", evidence)
    wanted = [bos] if bos is not None and (declared or front) else []
    if front == wanted:
        claim = f"Plain encoding begins with {'one BOS' if wanted else 'no BOS'}, as the tokenizer's files have it."
        yield bench.ok("TOK07", claim, evidence)
        return
    seen = "other ids than the word alone" if front is None else f"{subject.show(front) or 'no token'} in front"
    why = " although add_bos_token is declared" if declared and not front else ""
    claim = f"Plain encoding puts {seen}{why}, not {subject.show(wanted) or 'nothing'}."
    yield bench.found("TOK07", claim, evidence)


def _declares_bos(snapshot: Snapshot) -> bool:
    try:
        return snapshot.read_json("tokenizer_config.json").get("add_bos_token") is True
    except JsonUnreadable:
        return False


def _config_id(subject: Vocabulary, key: str) -> int | None:
    try:
        named = subject.bench.snapshot.read_json("config.json").get(key)
    except JsonUnreadable:
        return None
    return named if type(named) is int else None


def _no_pad(subject: Vocabulary) -> Iterator[Yielded]:
    bench, pad = subject.bench, subject.id("pad")
    evidence = saw("tokenizer.pad_token", subject.token("pad"))
    if pad is not None:
        yield bench.ok("TOK05", f"The tokenizer has a pad token: {subject.show([pad])}.", evidence)
        return
    spare = _spare(subject)
    if spare is not None:
        spared = subject.show([spare])
        claim = f"The tokenizer has no pad token, while {spared} is unused and has a row: {_NO_PAD_NEEDED}."
        yield bench.found("TOK05", claim, evidence, severity=Severity.NOTE)
    elif subject.rows is not None and subject.num_tokens < subject.rows.count:
        claim = (
            f"The tokenizer has no pad token and no unused one, but row {subject.num_tokens} belongs to no token and "
            f"could take one: {_NO_PAD_NEEDED}."
        )
        yield bench.found("TOK05", claim, evidence, severity=Severity.NOTE)
    else:
        claim = f"The tokenizer has no pad token, and none that could serve as one: {_NO_PAD_NEEDED}."
        yield bench.found("TOK05", claim, evidence, severity=Severity.NOTE)


def _spare(subject: Vocabulary) -> int | None:
    """An id that no role and no sampled text uses, has a row, and is named as a reserve; else an unused `unk`."""
    roles = {subject.id(role) for role in ROLES}
    free = [(s, i) for s, i in subject.special.items() if i not in roles | subject.sampled and subject.has_row(i)]
    ranked = [(rank, i) for rank, word in enumerate(_SPARE) for string, i in free if word in string.lower()]
    if ranked:
        return min(ranked)[1]
    unk = subject.id("unk")
    others = {subject.id(role) for role in ROLES if role != "unk"}
    usable = unk is not None and unk not in others | subject.sampled and subject.has_row(unk)
    return unk if usable else None


def _pad_is_eos(subject: Vocabulary) -> Iterator[Yielded]:
    bench, pad, eos = subject.bench, subject.id("pad"), subject.token("eos")
    if pad is None or eos is None:
        claim = f"Pad is not EOS: the tokenizer has no {'pad' if pad is None else 'EOS'} token."
        yield bench.ok("TOK06", claim, saw("tokenizer.pad_token", subject.token("pad")))
        return
    rows = ("yes" + eos, "a much longer answer" + eos)
    batch = subject.tokenizer(list(rows), padding=True, add_special_tokens=False)
    cells = [
        (i, mask) for ids, masks in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        for i, mask in zip(ids, masks, strict=True)
    ]  # fmt: skip
    ends = sum(i == subject.id("eos") and mask == 1 for i, mask in cells)
    kept = sum(i == subject.id("eos") and i != pad for i, _ in cells)
    evidence = (
        saw("EOS labels of a padded batch of 2 rows, masked where ids == pad", kept, ends),
        saw("EOS labels of the same batch, masked by attention_mask", ends),
    )
    if pad != subject.id("eos"):
        claim = f"Pad and EOS are two tokens: masking labels by the pad id keeps {kept} of {ends} ends of a batch."
        yield bench.ok("TOK06", claim, *evidence)
        return
    claim = (
        f"Pad is EOS, {subject.show([pad])}: masking labels by the pad id keeps {kept} of {ends} ends of a batch; "
        "this wire masks by attention mask and keeps them."
    )
    yield bench.found("TOK06", claim, *evidence, severity=Severity.NOTE)


def _splits(subject: Vocabulary) -> Iterator[Yielded]:
    special = dict(sorted(subject.special.items()))
    encoded = subject.tokenizer(list(special), add_special_tokens=False)["input_ids"] if special else []
    split = {s: list(ids) for (s, i), ids in zip(special.items(), encoded, strict=True) if list(ids) != [i]}
    if not split:
        claim = f"Each of the {len(subject.special)} declared special tokens encodes to its one id."
        yield subject.bench.ok("TOK08", claim, saw("encode(each special token)", len(subject.special)))
        return
    first = next(iter(split))
    claim = (
        f"{len(split)} of {len(subject.special)} declared special tokens do not encode to their one id, "
        f"{first} among them."
    )
    evidence = [
        saw(f'encode("{s}")', show_list(ids), str(subject.special[s])) for s, ids in list(split.items())[:SHOWN]
    ]
    yield subject.bench.found("TOK08", claim, *evidence)


def _round_trip(subject: Vocabulary) -> Iterator[Yielded]:
    """TOK09. An id with two strings is not decoded: which of them comes back, the library draws anew per process."""
    lost: list[tuple[str, str, str]] = []
    drawn = 0
    for name, text in TEXTS:
        if twofold := subject.doubled.keys() & set(subject.samples[name]):
            drawn += 1
            lost.append((name, text, f"{subject.show([min(twofold)])}: either string"))
            continue
        back = subject.tokenizer.decode(
            subject.samples[name], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        if str(back).removeprefix(" ") != text:  # the space in front is sentencepiece's own, and can be told
            lost.append((name, text, str(back)))
    if not lost:
        claim = f"Each of {len(TEXTS)} texts in many scripts, code and emoji comes back from its ids."
        yield subject.bench.ok("TOK09", claim, saw("decode(encode(text))", len(TEXTS)))
        return
    claim = f"{len(lost)} of {len(TEXTS)} texts do not come back from their ids: {', '.join(n for n, _, _ in lost)}."
    if drawn:
        claim = f"{claim[:-1]} ({drawn} of them at best by chance: an id in them has two strings)."
    evidence = [saw(f"decode(encode({name}))", back, text) for name, text, back in lost[:SHOWN]]
    yield subject.bench.found("TOK09", claim, *evidence)


def _collisions(subject: Vocabulary) -> Iterator[Yielded]:
    bench = subject.bench
    doubled = subject.doubled
    roles: dict[int, list[str]] = defaultdict(list)
    for role in ROLES:
        if (i := subject.id(role)) is not None:
            roles[i].append(role)
    shared = {i: named for i, named in roles.items() if len(named) > 1 and set(named) != {"pad", "eos"}}
    if doubled:
        first = min(doubled)
        claim = f"{len(doubled)} ids stand for more than one string: {first} is {' and '.join(doubled[first])}."
        yield bench.found("TOK10", claim, saw("tokenizer.get_vocab()", len(doubled), 0))
    for i, named in sorted(shared.items()):
        what = f"{', '.join(named)} share one token, {subject.show([i])}"
        evidence = (
            saw("tokenizer.special_tokens_map", " = ".join(named)),
            saw("encode(ordinary texts)", i in subject.sampled),
        )
        if i in subject.sampled:
            yield bench.found("TOK10", f"The roles {what}, and ordinary text reaches it.", *evidence)
        elif not _by_design(subject, named):
            yield bench.found("TOK10", f"The roles {what}, which a model has two tokens for.", *evidence)
        else:
            claim = f"The roles {what}, by design; this wire builds no mask and no stop from it alone."
            yield bench.found("TOK10", claim, *evidence, severity=Severity.NOTE)
    if not doubled and not shared:
        claim = "No two special roles share an id, and no id has two strings."
        yield bench.ok("TOK10", claim, saw("tokenizer.get_vocab()", len(subject.vocabulary)))


def _by_design(subject: Vocabulary, roles: list[str]) -> bool:
    """Whether makers share a token so: pad with any role; one end-of-text token for all, if the config agrees."""
    core = set(roles) - {"pad"}
    if len(core) <= 1:
        return True
    if "eos" not in core:
        return False
    begin, ends = _config_id(subject, "bos_token_id"), read_stops(subject.bench).config
    return not ("bos" in core and begin is not None and ends and begin not in ends)


def _rows(subject: Vocabulary) -> Iterator[Yielded]:
    """WGT09 and TOK02: rows without a token, tokens without a row."""
    bench, rows, num_tokens = subject.bench, subject.rows, subject.num_tokens
    if rows is None:
        raise CannotRun("neither an embedding tensor nor vocab_size in config.json tells how many rows there are")
    padding = max(0, rows.count - num_tokens)
    yield bench.fact("padding_rows", padding, rows.level, rows.source)
    evidence = (
        saw("tokenizer.get_vocab(): highest id + 1", num_tokens),
        Evidence(level=rows.level, source=rows.source, observed=rows.count),
    )
    if padding:
        claim = (
            f"The embedding has {rows.count:,} rows for {num_tokens:,} tokens: {padding:,} padding rows "
            "that no text reaches, to be masked in logits."
        )
        yield bench.found("WGT09", claim, *evidence)
    else:
        yield bench.ok("WGT09", f"No row of the embedding lies past the last of {num_tokens:,} tokens.", *evidence)
    beyond = frozenset(i for i in subject.strings if i >= rows.count)
    roles = [role for role in ROLES if subject.id(role) in beyond]
    if not beyond:
        claim = f"Every one of {num_tokens:,} token ids has one of {rows.count:,} rows."
        yield bench.ok("TOK02", claim, *evidence)
    elif roles or beyond & subject.sampled:
        by = f"the {roles[0]} token" if roles else "ordinary text"
        claim = f"No embedding row stands behind {subject.show(beyond)}, and {by} reaches one of them."
        yield bench.found("TOK02", claim, *evidence)
    else:
        claim = (
            f"No embedding row stands behind {subject.show(beyond)}; no special role and no ordinary text reaches it."
        )
        yield bench.found("TOK02", claim, *evidence, severity=Severity.WARN)


TOKENIZER = Probe(
    name="tokenizer",
    question="Does the tokenizer load, does every id have a row, and do its special tokens do what they say?",
    scope="model",
    level=Level.INSPECTED,
    codes=(*(f"TOK{n:02}" for n in range(1, 11)), "WGT09"),
    needs="torch",
    requires=("config",),
    moot_after=("CFG01",),
    run=_run,
)
