"""CFG09 where generation_config.json cannot be read, and TPL08 against the stops that generation uses."""

from __future__ import annotations

import pytest

from tests.gguf_bytes import pairs, whole
from tests.tokenizer_factory import END, PAD, START, found, ran, save, seen
from wirecheck.probes.template import TEMPLATE


@pytest.mark.parametrize(
    ("content", "so"),
    [
        (b'{"eos', "generation goes by config.json alone"),
        (b"\xff", "generation goes by config.json alone"),
        (b"[]", "transformers loads no model beside it"),
        (b"3", "transformers loads no model beside it"),
    ],
)
def test_cfg09_fires_on_a_generation_config_that_cannot_be_read(tmp_path, content, so):
    folder = save(tmp_path)
    (folder / "generation_config.json").write_bytes(content)
    run = ran(TEMPLATE, folder)
    assert seen(run, "CFG09") == ["warn", "ok"]
    warned, rest = (finding for finding in run.findings if finding.code == "CFG09")
    assert warned.claim.startswith(f"generation_config.json cannot be read, and {so}: ")
    assert rest.claim == f"Config and tokenizer name the same stop: {END}."


@pytest.mark.parametrize(("content", "loads"), [(b'{"eos', True), (b"\xff", True), (b"[]", False), (b"3", False)])
def test_what_transformers_does_with_a_generation_config_that_cannot_be_read(tmp_path, content, loads):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=8, n_head=2, n_layer=1, n_positions=8, vocab_size=16, bos_token_id=0, eos_token_id=7)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_bytes(content)
    if loads:
        assert GPT2LMHeadModel.from_pretrained(tmp_path).generation_config.eos_token_id == 7
    else:
        with pytest.raises(TypeError):
            GPT2LMHeadModel.from_pretrained(tmp_path)


def test_cfg09_names_the_files_really_read(tmp_path):
    absent, there = save(tmp_path / "absent", generation={}), save(tmp_path / "there")
    assert found(ran(TEMPLATE, absent), "CFG09").claim == f"Config and tokenizer name the same stop: {END}."
    claim = found(ran(TEMPLATE, there), "CFG09").claim
    assert claim == f"Config, generation config and tokenizer name the same stop: {END}."


def test_tpl08_fires_where_only_a_set_that_generation_does_not_use_holds_the_end(tmp_path):
    finding = found(ran(TEMPLATE, save(tmp_path, generation={"eos_token_id": PAD})), "TPL08")
    assert finding.severity == "warn"
    assert f"where generation does not stop, by generation_config.json ({PAD})" in finding.claim


def test_tpl08_silent_where_generation_stops_at_the_end_and_the_config_does_not(tmp_path):
    assert seen(ran(TEMPLATE, save(tmp_path, config={"eos_token_id": PAD})), "TPL08") == ["ok"]


def test_cfg09_fires_where_generation_stops_at_the_unknown_token(tmp_path):
    folder = save(tmp_path, generation={"eos_token_id": [END, START]}, unk_token="<|im_start|>")
    finding = found(ran(TEMPLATE, folder), "CFG09")
    assert finding.severity == "warn"
    assert finding.claim.startswith(f"Generation stops at the unknown token, {START}:")
    assert finding.claim.endswith("and every unknown character now ends the answer.")
    last = finding.evidence[-1]
    assert (last.source, last.observed) == ("tokenizer.unk_token_id", str(START))


def test_cfg09_silent_where_the_unknown_token_is_the_eos_itself(tmp_path):
    folder = save(tmp_path, unk_token="<|im_end|>")
    assert seen(ran(TEMPLATE, folder), "CFG09") == ["ok"]


def test_cfg09_reads_the_stop_of_a_nested_config(tmp_path):
    folder = save(tmp_path, config={"eos_token_id": None, "text_config": {"eos_token_id": END}})
    assert seen(ran(TEMPLATE, folder), "CFG09") == ["ok"]


def test_cfg09_takes_no_id_from_what_is_none(tmp_path):
    folder = save(tmp_path, generation={"eos_token_id": [END, -1, True, "2", None, 0.5]})
    assert seen(ran(TEMPLATE, folder), "CFG09") == ["ok"]


def test_cfg09_of_a_folder_without_a_config(tmp_path):
    (save(tmp_path) / "config.json").unlink()
    finding = found(ran(TEMPLATE, tmp_path), "CFG09")
    assert finding.severity == "note"
    assert [one.observed for one in finding.evidence] == [str(END), "none", str(END)]


def gguf(folder, **changed):
    """A small Llama in one GGUF file, with a generation config beside it that nothing reads."""
    (folder / "generation_config.json").write_text('{"eos_token_id": 3}')
    (folder / "m.gguf").write_bytes(whole(pairs(**changed)))
    return folder / "m.gguf"


def test_cfg09_of_a_gguf_file(tmp_path):
    finding = found(ran(TEMPLATE, gguf(tmp_path)), "CFG09")
    assert (finding.severity, finding.claim) == ("ok", "Config and tokenizer name the same stop: 2.")
    assert finding.evidence[0].source.endswith("#tokenizer.ggml.eos_token_id")


def test_cfg09_of_a_gguf_file_that_names_no_stop(tmp_path):
    """transformers' class has a default, and generation goes by it."""
    finding = found(ran(TEMPLATE, gguf(tmp_path, tokenizer__ggml__eos_token_id=None)), "CFG09")
    assert finding.severity == "note"
    assert "the one that generation uses (2) holds every stop" in finding.claim
