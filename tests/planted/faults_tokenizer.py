"""Faults of tokenizer files: TOK."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken

from tests.planted.cases import Change, Folder, plants
from tests.tokenizer_factory import SPECIALS, byte_level, unigram

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 22802\n"


def core(change: Any) -> Change:
    """Change tokenizer.json in place."""
    return lambda m: m.tokenizer(change)


def declared(without: tuple[str, ...] = (), **changes: Any) -> Change:
    """Change tokenizer_config.json; special_tokens_map.json, which says the same, is kept in step."""

    def changed(m: Folder) -> None:
        m.edit("tokenizer_config.json", without, **changes)
        if (m.path / "special_tokens_map.json").is_file():
            kept = {key: value for key, value in changes.items() if key.endswith("_token")}
            m.edit("special_tokens_map.json", without, **kept)

    return changed


def all_of(*changes: Change) -> Change:
    """One change after the other."""

    def changed(m: Folder) -> None:
        for change in changes:
            change(m)

    return changed


def added(word: str, i: int, *, special: bool = True, **fields: Any) -> Change:
    """One more added token in tokenizer.json."""
    token = {"id": i, "content": word, "special": special, "single_word": False, "lstrip": False, "rstrip": False}
    return core(lambda c: c["added_tokens"].append(token | {"normalized": not special} | fields))


def _no_merges(content: Any) -> None:
    content["model"]["merges"] = content["model"]["merges"] + [["never", "seen"]]


def _renumbered(content: Any) -> None:
    """Ids go on 100 later: the vocabulary of a larger model."""
    for word in content["model"]["vocab"]:
        content["model"]["vocab"][word] += 100
    for token in content["added_tokens"]:
        token["id"] += 100


def _front(*words: str) -> Change:
    def changed(content: Any) -> None:
        ids = {token["content"]: token["id"] for token in content["added_tokens"]}
        single = [{"SpecialToken": {"id": word, "type_id": 0}} for word in words]
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [*single, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {w: {"id": w, "ids": [ids[w]], "tokens": [w]} for w in words},
        }

    return core(changed)


def _same_id(content: Any) -> None:
    """Two strings for one id: a token added over one that is there."""
    words = content["model"]["vocab"]
    first, second = sorted(words, key=words.__getitem__)[40:42]
    words[second] = words[first]


def _no_more_stops(m: Folder) -> None:
    declared(("eos_token",))(m)
    m.edit("generation_config.json", ["eos_token_id"])
    m.config(["eos_token_id"])


def _fewer_rows(m: Folder) -> None:
    """The table was cut to what one language needs, vocab_size with it; the tokenizer was not."""
    m.rows("embed_tokens lm_head", 600)
    m.config(vocab_size=600)


def _one_row_short(m: Folder) -> None:
    """Added tokens, and nobody resized: the classic."""
    added("<|tool|>", 1024)(m)


def _stop_past(m: Folder) -> None:
    added("<|stop|>", 1030)(m)
    declared(eos_token="<|stop|>")(m)


def _pad_past(m: Folder) -> None:
    """`add_special_tokens({"pad_token": "[PAD]"})`, and no resize."""
    added("[PAD]", 1024)(m)
    declared(pad_token="[PAD]")(m)


def _latin(m: Folder) -> None:
    def changed(content: Any) -> None:
        content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}]}

    m.tokenizer(changed)


def _normalizer(**fields: Any) -> Change:
    return core(lambda c: c.__setitem__("normalizer", fields))


def _vocabulary_gap(content: Any) -> None:
    """The bytes of other scripts were pruned from the vocabulary."""
    words, merges = content["model"]["vocab"], content["model"]["merges"]
    lost = {word for word in words if any(ord(char) > 0x7F and char not in "ĠĊĉ" for char in word)}
    for word in lost:
        del words[word]
    content["model"]["merges"] = [pair for pair in merges if not lost & {*pair, "".join(pair)}]


def _word_inside(m: Folder) -> None:
    """What is not normalized is cut out first, also out of the name of a special token that is."""
    special = AddedToken("<|tool|>", normalized=True, special=True)
    byte_level([*SPECIALS, special], added=[AddedToken("tool", normalized=False)], front=["<s>"]).save(
        str(m.path / "tokenizer.json")
    )


def _unigram(m: Folder) -> None:
    """A vocabulary of letters, whose unknown token is its end: every rare sign ends the answer."""
    unigram(("</s>",), unk="</s>").save(str(m.path / "tokenizer.json"))
    m.edit("tokenizer_config.json", eos_token="</s>", unk_token="</s>", bos_token=None, pad_token=None)
    m.edit("generation_config.json", eos_token_id=0)
    m.config(eos_token_id=0, bos_token_id=None, pad_token_id=None)


TOKENIZER = (
    *plants(
        "llama",
        (
            (
                "TOK01",
                "no tokenizer file at all",
                lambda m: m.remove("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
            ),
            ("TOK01", "tokenizer.json is not there, the rest is", lambda m: m.remove("tokenizer.json")),
            (
                "TOK01",
                "tokenizer.json ended halfway",
                lambda m: m.put("tokenizer.json", m.text("tokenizer.json")[:9000]),
            ),
            ("TOK01", "tokenizer.json is a Git LFS pointer", lambda m: m.put("tokenizer.json", POINTER)),
            ("TOK01", "a merge of tokens that the vocabulary lacks", core(_no_merges)),
            (
                "TOK01",
                "tokenizer_config.json is not JSON",
                lambda m: m.put("tokenizer_config.json", "{'bos_token': '<s>'}"),
            ),
            (
                "TOK01",
                "tokenizer.json is of a kind of model that the library lacks",
                core(lambda c: c["model"].__setitem__("type", "SuperBPE")),
            ),
            ("TOK01", "the vocabulary is empty", core(lambda c: c["model"].update(vocab={}, merges=[]))),
            ("TOK02", "the ids of a larger model: all are 100 higher", core(_renumbered)),
            ("TOK02", "the tables were cut to 600 rows, the tokenizer was not", _fewer_rows),
            ("TOK02", "a token was added and no row for it", _one_row_short, "warn"),
            ("TOK02", "the stop token was added and no row for it", _stop_past),
            ("TOK02", "a pad token was added and no row for it", _pad_past),
            ("TOK03", "no file names an end", _no_more_stops),
            (
                "TOK04",
                "the tokenizer lost its BOS token",
                all_of(declared(("bos_token",)), core(lambda c: c.__setitem__("post_processor", None))),
                "note",
            ),
            ("TOK06", "pad is the end-of-turn token", declared(pad_token="<|done|>"), "note"),
            ("TOK07", "plain encoding puts two BOS in front", _front("<|begin|>", "<|begin|>"), "warn"),
            (
                "TOK07",
                "add_bos_token is declared, and none is put in front",
                all_of(declared(add_bos_token=True), core(lambda c: c.__setitem__("post_processor", None))),
                "warn",
            ),
            ("TOK07", "plain encoding puts the end in front", _front("<|done|>"), "warn"),
            ("TOK09", "everything is lower-cased", _normalizer(type="Lowercase"), "warn"),
            ("TOK09", "accents are stripped", _latin, "warn"),
            ("TOK09", "spaces are squeezed", _normalizer(type="Replace", pattern={"Regex": " +"}, content=" "), "warn"),
            ("TOK09", "compatibility forms are folded: NFKC", _normalizer(type="NFKC"), "warn"),
            ("TOK09", "the bytes of other scripts were pruned", core(_vocabulary_gap), "warn"),
            (
                "TOK09",
                "the decoder is of another kind of vocabulary",
                core(lambda c: c.__setitem__("decoder", {"type": "WordPiece", "prefix": "##", "cleanup": True})),
                "warn",
            ),
            ("TOK10", "BOS is the end-of-turn token, and the config has two", declared(bos_token="<|done|>"), "warn"),
            ("TOK10", "two strings share one id", core(_same_id), "warn"),
        ),
    ),
    *plants(
        "qwen",
        (
            (
                "TOK01",
                "a tokenizer class that needs a vocabulary of another kind",
                all_of(lambda m: m.remove("tokenizer.json"), declared(tokenizer_class="LlamaTokenizer")),
            ),
            ("TOK06", "pad was set to the end, as recipes have it", declared(pad_token="<|im_end|>"), "note"),
        ),
    ),
    *plants(
        "mistral",
        (
            ("TOK05", "the pad token was taken out", declared(("pad_token",)), "note"),
            ("TOK10", "unknown is the end: every rare sign becomes a stop", _unigram, "warn"),
            ("TOK08", "an added word stands within a special token's name and is looked for first", _word_inside),
        ),
    ),
    *plants(
        "gpt2",
        (
            (
                "TOK02",
                "one of the byte tokens has no row",
                core(lambda c: c["model"]["vocab"].__setitem__("e", 5000)),
            ),
        ),
    ),
)
