"""Tokenizers that make a book of every line, and files of the user's own that have no end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from wirecheck import zoo
from wirecheck.bounded_text import bounded_text
from wirecheck.cli_output import read_result
from wirecheck.errors import UsageError
from wirecheck.snapshot import parse_ref, take

SWELLING: dict[str, dict[str, Any]] = {
    "a prefix of thousands of words": {"normalizer": {"type": "Prepend", "prepend": "x" * 10**5}},
    "the text thousands of times": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 2000,
            "pair": [],
            "special_tokens": {},
        }
    },
}


@pytest.mark.parametrize("changed", SWELLING.values(), ids=SWELLING)
def test_a_tokenizer_that_makes_thousands_of_tokens_of_a_line_is_not_used(llama, changed):
    path = llama / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(zoo.Unloadable, match=r"it makes \d+ tokens of \d+ characters, which no tokenizer does"):
        zoo.load_tokenizer(take(parse_ref(str(llama))), trust_remote_code=False)


def test_a_decoder_that_makes_a_book_of_a_line_is_not_used(llama):
    path = llama / "tokenizer.json"
    swell = {"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 10**5}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"decoder": swell}))
    with pytest.raises(zoo.Unloadable, match=r"it makes \d+ characters of \d+ tokens, which no tokenizer does"):
        zoo.load_tokenizer(take(parse_ref(str(llama))), trust_remote_code=False)


def test_a_file_of_the_users_is_read_up_to_a_bound(tmp_path):
    (tmp_path / "x").write_bytes("é\r\n".encode())
    assert bounded_text(tmp_path / "x", 4) == "é\n"
    with pytest.raises(OSError, match="more than the 0 MiB"):
        bounded_text(tmp_path / "x", 3)


def test_a_result_without_end_is_refused(tmp_path):
    with (tmp_path / "r.json").open("wb") as file:
        os.truncate(file.fileno(), 2**40)
    with pytest.raises(UsageError, match="it has more than the 512 MiB that are read"):
        read_result(Path(tmp_path / "r.json"))
