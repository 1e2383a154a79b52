"""A tokenizer that loads and cannot be used is told of as a finding; a panic of Rust's does not end the check."""

from __future__ import annotations

import pytest

from tests import tokenizer_factory
from tests.fuzz.seeds import REGRESSIONS
from tests.tokenizer_factory import bench, ran, save
from wirecheck import zoo_tokenizer
from wirecheck.probes.tokenizer import TOKENIZER
from wirecheck.schema import Severity
from wirecheck.zoo_tokenizer import LibraryPanic, panics_told

PANICS = sorted((REGRESSIONS / "tokenizer").glob("panic-*"))


class PanicException(BaseException):
    """As pyo3 names its own, which cannot be imported."""


@pytest.mark.parametrize("path", PANICS, ids=lambda path: path.name)
def test_a_panic_of_the_library_is_a_finding(tmp_path, path):
    folder = save(tmp_path / "m")
    (folder / "tokenizer.json").write_bytes(path.read_bytes()[1:])
    found = tokenizer_factory.found(ran(TOKENIZER, folder), "TOK01")
    assert found.severity is Severity.BLOCK
    assert "the tokenizer library panicked" in found.claim


@pytest.mark.parametrize(
    ("file", "words"),
    [("tokenizer_config.json", '{"model_max_length": "512"}'), ("special_tokens_map.json", '{"unk_token": {}}')],
)
def test_a_tokenizer_that_fails_at_its_first_words_is_a_finding(tmp_path, file, words):
    folder = save(tmp_path / "m")
    (folder / file).write_text(words)
    found = tokenizer_factory.found(ran(TOKENIZER, folder), "TOK01")
    assert found.severity is Severity.BLOCK
    assert "it fails at its first words" in found.claim


def test_a_sound_tokenizer_encodes_as_before(tmp_path):
    tokenizer = bench(save(tmp_path / "m")).tokenizer
    ids = tokenizer("ab")["input_ids"]
    assert ids == tokenizer.convert_tokens_to_ids(["<s>", "a", "b"])
    assert tokenizer.decode(ids) == "<s>ab"


def test_a_panic_after_the_trial_is_an_error_that_can_be_caught(tmp_path):
    tokenizer = bench(save(tmp_path / "m")).tokenizer

    def panics(*_args, **_options):
        raise PanicException("index out of bounds")

    tokenizer._decode = zoo_tokenizer._telling(panics)
    with pytest.raises(LibraryPanic, match="index out of bounds"):
        tokenizer.decode([1])


def test_what_is_no_panic_passes():
    with pytest.raises(KeyboardInterrupt), panics_told():
        raise KeyboardInterrupt
