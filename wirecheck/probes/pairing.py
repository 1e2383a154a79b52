"""PAR: what two models share and what lies between them. All of it notes: the wire bears every difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from wirecheck.errors import CannotRun
from wirecheck.probe import PairBench, Probe, Yielded
from wirecheck.schema import Evidence, Level, strongest
from wirecheck.vocabulary import overlap
from wirecheck.wires import WIRES, pair_count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLE = (
    ("English", "The committee will publish its final report on the harbour bridge before the end of the month."),
    ("German", "Die Geschwindigkeitsbegrenzung auf der Landstraße wurde nach dem Unfall deutlich herabgesetzt."),
    ("French", "À la fin de l'été, ils ont traversé les Pyrénées à pied sans jamais perdre leur bonne humeur."),
    ("Russian", "Учёные обнаружили под ледником озеро, в котором уже миллионы лет живут бактерии."),
    ("Chinese", "昨天晚上我们在图书馆讨论了如何改进机器翻译系统的质量。"),
    ("Japanese", "新しい駅の建設により、通勤時間が大幅に短縮される見込みです。"),
    ("Arabic", "أعلنت الجامعة عن برنامج جديد لدراسة اللغات القديمة في المنطقة."),
    ("Hindi", "किसानों ने इस वर्ष मानसून के जल्दी आने पर खुशी व्यक्त की है।"),
    ("code", "def mean(values: list[float]) -> float:\n    return sum(values) / len(values) if values else 0.0\n"),
    ("numbers", "3.14159 * (27 - 4)^2 = 1661.9; 2024-02-29T23:59:59Z; 0xDEADBEEF; 1,048,576 bytes"),
)
"""(kind, text): one sentence each, so that no kind outweighs the others by much."""
LAYOUT = (
    ("num_layers", "layers"),
    ("num_heads", "heads"),
    ("num_kv_heads", "key-value heads"),
    ("head_dim", "dimensions per head"),
)


def _run(bench: PairBench) -> Iterator[Yielded]:
    yield from _hidden(bench)
    yield from _vocabularies(bench)
    yield from _lengths(bench)
    yield from _layout(bench)
    yield from _commits(bench)


def _hidden(bench: PairBench) -> Iterator[Yielded]:
    (size_a, seen_a), (size_b, seen_b) = _hidden_size(bench, "a"), _hidden_size(bench, "b")
    if bench.wire.is_own:
        claim = f"The hidden sizes are {size_a} and {size_b}; what projects to them is your own wire's."
        yield bench.found("PAR01", claim, seen_a, seen_b)
        return
    if bench.wire.name not in WIRES:
        raise CannotRun(f"the parameters of wire {bench.wire.name} are not known without building it")
    count, width = pair_count(bench.wire, size_a, size_b), bench.wire.latent_width
    has_latent = count.encoder > 0
    source = f"parameter count of wire {bench.wire.name}" + (f", latent width {width}" if has_latent else "")
    seen = [seen_a, seen_b]
    for side, adapter in (("a", count.adapter_a), ("b", count.adapter_b)):
        seen.append(Evidence(level=Level.INSPECTED, source=f"{source}, adapter {side}", observed=adapter))
        yield bench.fact(f"adapter_{side}_parameters", adapter, Level.INSPECTED, source)
    yield bench.fact("encoder_parameters", count.encoder, Level.INSPECTED, source)
    what = f"project latent width {width} to them" if has_latent else "project the other model's hidden states to them"
    adapters = f"adapters of {count.adapter_a:,} and {count.adapter_b:,} parameters {what}"
    if size_a == size_b:
        yield bench.ok("PAR01", f"Both hidden sizes are {size_a}; {adapters}.", *seen)
    else:
        yield bench.found("PAR01", f"The hidden sizes are {size_a} and {size_b}; {adapters}.", *seen)


def _hidden_size(bench: PairBench, side: Literal["a", "b"]) -> tuple[int, Evidence]:
    fact = strongest(bench.facts, side, "hidden_size")
    if fact is None or not isinstance(fact.value, int):
        raise CannotRun(f"no probe established hidden_size of model {side}")
    return fact.value, fact.evidence()


def _vocabularies(bench: PairBench) -> Iterator[Yielded]:
    vocabulary_a, vocabulary_b = bench.a.vocabulary, bench.b.vocabulary
    found = overlap(vocabulary_a, vocabulary_b, spelt=(bench.a.spelt, bench.b.spelt))
    seen = [
        Evidence(level=Level.INSPECTED, source=f"get_vocab() of {side}'s tokenizer", observed=size)
        for side, size in (("a", found.size_a), ("b", found.size_b))
    ]
    both = Evidence(
        level=Level.INSPECTED, source="both vocabularies, spaces and bytes spelt alike", observed=found.shared
    )
    for key in ("shared", "same_id"):
        yield bench.fact(f"vocabulary_{key}", getattr(found, key), Level.INSPECTED, both.source)
    if vocabulary_a == vocabulary_b:
        yield bench.ok(
            "PAR02", f"Both tokenizers have the same {found.size_a:,} tokens with the same ids.", *seen, both
        )
        return
    claim = (
        f"{found.shared:,} tokens are in both vocabularies (of {found.size_a:,} and {found.size_b:,}), "
        f"{found.same_id:,} of them with the same id; the wire passes text and latents, never ids."
    )
    yield bench.found("PAR02", claim, *seen, both)


def _lengths(bench: PairBench) -> Iterator[Yielded]:
    a, b = sample_lengths(bench.a.tokenizer), sample_lengths(bench.b.tokenizer)
    if min(*a, *b) == 0:
        raise CannotRun("a tokenizer makes no token of an ordinary sentence, so lengths cannot be compared")
    seen = []
    for side, lengths in (("a", a), ("b", b)):
        source = f"encode(sample of {len(SAMPLE)} texts) of {side}"
        seen.append(Evidence(level=Level.INSPECTED, source=source, observed=sum(lengths)))
        for (kind, _), length in zip(SAMPLE, lengths, strict=True):
            fact = bench.fact(f"sample_tokens_{kind.lower()}", length, Level.INSPECTED, source)
            yield fact.model_copy(update={"subject": side})
    ratio = length_ratio(a, b)
    yield bench.fact("token_length_ratio", ratio, Level.INSPECTED, seen[0].source)
    if a == b:
        claim = f"Both need {sum(a)} tokens for the same {len(SAMPLE)} texts, text by text."
        yield bench.ok("PAR03", claim, *seen)
        return
    ratios = sorted((of_a / of_b, kind) for of_a, of_b, (kind, _) in zip(a, b, SAMPLE, strict=True))
    (low, where_low), (high, where_high) = ratios[0], ratios[-1]
    claim = (
        f"For the same {len(SAMPLE)} texts A needs {sum(a)} tokens and B {sum(b)}, {ratio:.2f} times B's; "
        f"the ratio runs from {low:.2f} ({where_low}) to {high:.2f} ({where_high})."
    )
    yield bench.found("PAR03", claim, *seen)


def sample_lengths(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Tokens of each text of the sample, without special ones."""
    return tuple(len(tokenizer.encode(text, add_special_tokens=False)) for _, text in SAMPLE)


def length_ratio(a: Sequence[int], b: Sequence[int]) -> float:
    """Tokens that A needs for the sample, per token of B."""
    return round(sum(a) / sum(b), 2)


def _layout(bench: PairBench) -> Iterator[Yielded]:
    words, seen = {}, []
    for side in ("a", "b"):
        shown = []
        for key, noun in LAYOUT:
            fact = strongest(bench.facts, side, key)
            shown.append(f"{noun} unknown" if fact is None else f"{fact.value} {noun}")
            if fact is not None:
                seen.append(fact.evidence())
        words[side] = ", ".join(shown)
    if not seen:
        raise CannotRun("no probe established layers or heads of either model")
    if words["a"] == words["b"]:
        yield bench.ok("PAR04", f"Both models have {words['a']}.", *seen)
    else:
        yield bench.found("PAR04", f"A has {words['a']}; B has {words['b']}.", *seen)


def _commits(bench: PairBench) -> Iterator[Yielded]:
    seen = [
        Evidence(level=Level.INSPECTED, source=model.snapshot.source("config.json"), observed=model.snapshot.commit)
        for model in (bench.a, bench.b)
    ]
    if bench.a.snapshot.commit == bench.b.snapshot.commit:
        kinds = {bench.a.snapshot.ref.kind, bench.b.snapshot.ref.kind}
        same = "are one commit" if kinds == {"hub"} else "have the same metadata and tensor headers"
        yield bench.found("PAR05", f"Both sides {same}: one model wired to itself.", *seen)
    else:
        yield bench.ok("PAR05", "The two sides are different models.", *seen)


PAIRING = Probe(
    name="pairing",
    question="What do the two models share, and what must the wire bear between them?",
    scope="pair",
    level=Level.INSPECTED,
    codes=("PAR01", "PAR02", "PAR03", "PAR04", "PAR05"),
    needs="torch",
    requires=("config", "tokenizer"),
    moot_after=("CFG01", "CFG05", "TOK01"),
    run=_run,
)
