"""GGUF files made by hand to hurt whoever reads them: our reader, and transformers' own behind it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from tests.gguf_bytes import ARR, STR, TENSORS, TOKENS, U8, U32, U64, pair, pairs, text, whole
from wirecheck import zoo
from wirecheck.errors import CouldNotCheck
from wirecheck.gguf_file import MOST_KEYS, MOST_TENSORS, read_gguf
from wirecheck.snapshot import parse_ref, take

HUGE = 2**63
EMBEDDING, NORM, QUERY = TENSORS
_LIST_OF_ONE = struct.pack("<IQ", ARR, 1)

BROKEN: dict[str, tuple[bytes, str, str]] = {
    "2^63 tensors": (whole(counts=(HUGE, None)), "malformed", f"holds {HUGE} tensors"),
    "2^63 keys": (whole(counts=(None, HUGE)), "malformed", f"holds {HUGE} keys"),
    "as many tensors as are read": (whole(counts=(MOST_TENSORS, None)), "truncated", "needs"),
    "as many keys as are read": (whole(counts=(None, MOST_KEYS)), "truncated", "needs"),
    "alignment 0": (whole(pairs(general__alignment=(U32, 0))), "malformed", "alignment"),
    "alignment 7": (whole(pairs(general__alignment=(U32, 7))), "malformed", "alignment"),
    "alignment of words": (whole(pairs(general__alignment=(STR, "x"))), "malformed", "alignment"),
    "overlapping": (whole(tensors=(EMBEDDING, NORM, (*QUERY[:3], 0))), "malformed", "within blk.0.attn_q.weight"),
    "overlapping by a little": (whole(tensors=(EMBEDDING, (*NORM[:3], 736), QUERY)), "malformed", "within"),
    "a name twice": (whole(tensors=(EMBEDDING, EMBEDDING)), "malformed", "duplicated"),
    "a key twice": (whole([*pairs(), pair("llama.block_count", U32, 10**9)]), "malformed", "Duplicate"),
    "past the end": (whole(tensors=((*EMBEDDING[:3], 10**12),)), "truncated", "needs 1000000"),
    "past 63 bits": (whole(tensors=((*EMBEDDING[:3], HUGE),)), "truncated", "needs"),
    "back over the metadata": (whole(tensors=((*EMBEDDING[:3], 2**64 - 256),)), "malformed", "overflow"),
    "sizes past 64 bits": (whole(tensors=(("x", (HUGE, HUGE), 0, 0),)), "malformed", "not readable"),
    "sizes whose product is 0 in 64 bits": (whole(tensors=(("x", (2**32, 2**32), 0, 0),)), "malformed", "reshape"),
    "2^32 sizes": (whole(tensors=(text("x") + struct.pack("<I", 2**32 - 1),)), "truncated", "needs"),
    "a thousand sizes": (whole(tensors=(("x", (1,) * 1000, 0, 0),)), "malformed", "not readable"),
    "a dtype that is none": (whole(tensors=(("x", (1,), 99, 0),)), "malformed", "99"),
    "a value's kind that is none": (whole([*pairs(), text("x") + struct.pack("<IQ", 99, 0)]), "malformed", "99"),
    "a text past the file": (whole([text("x") + struct.pack("<IQ", STR, HUGE)]), "truncated", "needs"),
    "a key past the file": (whole([struct.pack("<Q", HUGE)]), "truncated", "needs"),
    "lists in lists": (whole([pair("x", ARR, _LIST_OF_ONE * 100_000)]), "malformed", "RecursionError"),
    "2^40 lists": (whole([pair("x", ARR, struct.pack("<IQ", ARR, 2**40))]), "malformed", "not readable"),
    "2^63 texts": (whole([pair("x", ARR, struct.pack("<IQ", STR, HUGE))]), "malformed", f"a list of {HUGE} texts"),
    "2^63 bytes": (whole([pair("x", ARR, struct.pack("<IQ", U8, HUGE))]), "truncated", "needs"),
    "a key that is no text": (whole([*pairs(), pair(b"\xff\xfe", U8, 1)]), "malformed", "UnicodeDecodeError"),
    "a name that is no text": (whole(tensors=((b"\xff\xfe", (1,), 0, 0),)), "malformed", "UnicodeDecodeError"),
}


@pytest.mark.parametrize(("content", "problem", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_with_the_file_is_told(tmp_path, content, problem, words):
    (tmp_path / "m.gguf").write_bytes(content)
    found = read_gguf(tmp_path / "m.gguf")
    assert (found.weights.problem, found.weights.tensors, found.config) == (problem, (), None)
    assert words in found.weights.detail


def test_the_file_that_these_are_made_of_is_sound(tmp_path):
    (tmp_path / "m.gguf").write_bytes(whole())
    found = read_gguf(tmp_path / "m.gguf")
    assert found.weights.problem is None
    assert [one.num_bytes for one in found.weights.tensors] == [768, 128, 4096]
    tokenizer = zoo.load_tokenizer(take(parse_ref(str(tmp_path / "m.gguf"))), trust_remote_code=False)
    assert set(TOKENS) <= set(tokenizer.get_vocab())


@pytest.mark.parametrize("lists", [200, 900])
def test_lists_in_lists_that_the_reader_takes_are_no_crash(tmp_path, lists):
    nested = _LIST_OF_ONE * lists + struct.pack("<IQ", U8, 0)
    (tmp_path / "m.gguf").write_bytes(whole([*pairs(), pair("x", ARR, nested)]))
    taken = take(parse_ref(str(tmp_path / "m.gguf"))).weights[0]
    assert taken.problem in (None, "malformed")


SPOILT: dict[str, dict[str, Any]] = {
    "architecture a number": {"general__architecture": (U32, 7)},
    "blocks of words": {"llama__block_count": (STR, "x")},
    "no heads": {"llama__attention__head_count": (U32, 0)},
    "a million kinds of heads": {"llama__attention__head_count_kv": (ARR, (U32, [2] * 10**6))},
    "tokens that are numbers": {"tokenizer__ggml__tokens": (ARR, (U32, [1] * 6))},
    "tokens that are no text": {"tokenizer__ggml__tokens": (ARR, (STR, [b"\xff"] * 6))},
    "no tokens": {"tokenizer__ggml__tokens": None},
    "one token that is no list": {"tokenizer__ggml__tokens": (STR, "x")},
    "blocks without end": {"llama__block_count": (U32, 10**9)},
    "positions past 63 bits": {"llama__context_length": (U64, 2**64 - 1)},
}


@pytest.mark.parametrize("changed", SPOILT.values(), ids=SPOILT)
def test_what_the_librarys_own_reader_does_not_take_is_the_files_fault(tmp_path, changed):
    (tmp_path / "m.gguf").write_bytes(whole(pairs(**changed)))
    with pytest.raises(zoo.Unloadable):
        zoo.load_tokenizer(take(parse_ref(str(tmp_path / "m.gguf"))), trust_remote_code=False)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json", "chat_template.jinja", "config.json"])
def test_a_link_beside_the_file_is_not_followed_out_of_the_folder(tmp_path, name):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "m.gguf").write_bytes(whole())
    (tmp_path / "secret").write_text('{"chat_template": "SECRET"}')
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(CouldNotCheck, match="leads out of the model's folder and was not read"):
        take(parse_ref(str(folder / "m.gguf")))


def test_a_file_in_the_hubs_cache_stands_beside_links_to_its_store(tmp_path):
    storage = tmp_path / "models--org--name"
    folder = storage / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    (storage / "blobs").mkdir()
    for name, content in (("m.gguf", whole()), ("tokenizer_config.json", b"{}")):
        (storage / "blobs" / name).write_bytes(content)
        (folder / name).symlink_to(Path("..", "..", "blobs", name))
    assert take(parse_ref(str(folder / "m.gguf"))).weights[0].problem is None
