"""The pairing probe: what two models share, on small tokenizers made here and on the real pairs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.benches import config_folder, model_bench, pair_bench, run, run_short
from tests.factories import needs_assets, seed_snapshot
from wirecheck.errors import CannotRun
from wirecheck.probes.config import CONFIG
from wirecheck.probes.pairing import PAIRING, SAMPLE
from wirecheck.schema import Level, WireSpec
from wirecheck.vocabulary import BYTE_OF, normalise, overlap

SOUND = "test_a_model_with_itself_differs_in_nothing"
pytestmark = pytest.mark.usefixtures("said")

WORDS = ["the cat sat on the mat", "a dog ran over the hill", "under the old stone bridge"] * 3


def with_tokenizer(folder, *, vocab_size: int = 300):
    """The folder, with a byte-level BPE tokenizer trained on a few words, which make no more than 296 tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet))
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


@pytest.fixture
def check(tmp_path):
    """check(changes of B's config, B's vocabulary size) -> output of the probe against the small sound model."""

    def checked(changed=None, *, vocab_size=300, wire=None, declared=True):
        a = model_bench(with_tokenizer(config_folder(tmp_path / "a")), wire=wire)
        folder = with_tokenizer(config_folder(tmp_path / "b", **(changed or {})), vocab_size=vocab_size)
        b = model_bench(folder, side="b", wire=wire)
        facts = [fact for bench in (a, b) for fact in run(CONFIG, bench).facts.values()] if declared else []
        return run(PAIRING, pair_bench(a, b, facts))

    return checked


# --- one test that fires and one that must not, code by code ---------------------------------------------------------


def test_a_model_with_itself_differs_in_nothing(check):
    output = check()
    assert output.fired == {"PAR05"}
    assert {finding.code for finding in output.findings} == {"PAR01", "PAR02", "PAR03", "PAR04", "PAR05"}


def test_par01_notes_the_hidden_sizes_and_the_adapters(check):
    output = check({"hidden_size": 128}, wire=WireSpec(latent_width=64, latent_length=8))
    assert output.severity("PAR01") == "note"
    assert output.claim("PAR01").startswith("The hidden sizes are 64 and 128; adapters of ")
    assert output.facts["adapter_a_parameters"].value < output.facts["adapter_b_parameters"].value


def test_par01_of_a_wire_without_an_encoder(check):
    output = check(wire=WireSpec(name="resampler"))
    assert output.facts["encoder_parameters"].value == 0
    assert output.claim("PAR01").endswith("parameters project the other model's hidden states to them.")


def test_par01_leaves_a_wire_of_your_own_uncounted(check):
    output = check({"hidden_size": 128}, wire=WireSpec(name="wires.py:make"))
    assert output.severity("PAR01") == "note"
    assert output.claim("PAR01") == "The hidden sizes are 64 and 128; what projects to them is your own wire's."
    assert not {"adapter_a_parameters", "encoder_parameters"} & set(output.facts)


def test_par01_silent_on_one_hidden_size(check):
    assert check().severity("PAR01") == "ok"


def test_par02_notes_the_overlap(check):
    output = check(vocab_size=280)
    assert output.severity("PAR02") == "note"
    assert output.facts["vocabulary_shared"].value == 280
    assert "of 296 and 280" in output.claim("PAR02")


def test_par02_silent_on_one_vocabulary(check):
    assert check().severity("PAR02") == "ok"


def test_par03_notes_the_lengths(check):
    output = check(vocab_size=257)
    assert output.severity("PAR03") == "note"
    assert output.facts["token_length_ratio"].value < 1
    assert f"For the same {len(SAMPLE)} texts" in output.claim("PAR03")


def test_par03_silent_on_equal_lengths(check):
    assert check().severity("PAR03") == "ok"


def pair_of(folder, core):
    """A bench of one small model on both sides, whose tokenizer is `core`; config alone was asked before."""
    core.save(str(config_folder(folder) / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    a, b = (model_bench(folder, side=side) for side in "ab")
    return pair_bench(a, b, [fact for bench in (a, b) for fact in run(CONFIG, bench).facts.values()])


def test_par03_counts_texts_of_one_token(tmp_path):
    core = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    assert run(PAIRING, pair_of(tmp_path, core)).claim("PAR03").startswith(f"Both need {len(SAMPLE)} tokens")


def test_par03_cannot_compare_where_a_text_has_no_token(tmp_path):
    core = Tokenizer(models.BPE({"e": 0}, []))
    output, why = run_short(PAIRING, pair_of(tmp_path, core))
    assert (output.of("PAR03"), why) == (
        [],
        "a tokenizer makes no token of an ordinary sentence, so lengths cannot be compared",
    )


def test_par04_cannot_compare_what_no_probe_established(tmp_path):
    whole = pair_of(tmp_path, Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>")))
    output, why = run_short(
        PAIRING, pair_bench(whole.a, whole.b, [fact for fact in whole.facts if fact.key == "hidden_size"])
    )
    assert (output.of("PAR04"), why) == ([], "no probe established layers or heads of either model")


def test_par04_notes_depth_and_heads(check):
    output = check({"num_hidden_layers": 5, "num_key_value_heads": 4})
    assert output.severity("PAR04") == "note"
    assert "A has 3 layers, 4 heads, 2 key-value heads" in output.claim("PAR04")
    assert "B has 5 layers, 4 heads, 4 key-value heads" in output.claim("PAR04")


def test_par04_silent_on_one_layout(check):
    assert check().severity("PAR04") == "ok"


def test_par04_says_what_is_unknown(check):
    assert "key-value heads unknown" in check({"num_key_value_heads": None}).claim("PAR04")


def test_par05_notes_one_model_on_both_sides(check):
    output = check()
    assert output.severity("PAR05") == "note"
    assert output.claim("PAR05").startswith("Both sides have the same metadata and tensor headers")


def test_par05_names_the_commit_of_a_repository_on_both_sides(tmp_path):
    whole = pair_of(tmp_path, Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>")))
    for bench in (whole.a, whole.b):
        bench.snapshot = replace(bench.snapshot, ref=replace(bench.snapshot.ref, kind="hub", name="org/model"))
    assert run(PAIRING, whole).claim("PAR05") == "Both sides are one commit: one model wired to itself."
    whole.b.snapshot = replace(whole.b.snapshot, ref=replace(whole.b.snapshot.ref, kind="folder"))
    assert run(PAIRING, whole).claim("PAR05").startswith("Both sides have the same metadata and tensor headers")


def test_par05_silent_on_two_models(check):
    assert check({"num_hidden_layers": 5}).severity("PAR05") == "ok"


def test_nothing_established_is_a_reason_to_skip(check):
    with pytest.raises(CannotRun, match="no probe established hidden_size of model a"):
        check(declared=False)


def test_an_unknown_wire_is_a_reason_to_skip(check):
    with pytest.raises(CannotRun, match="the parameters of wire mine are not known without building it"):
        check(wire=WireSpec(name="mine"))


# --- vocabularies ----------------------------------------------------------------------------------------------------


def test_spaces_and_bytes_are_spelt_alike():
    byte_level = {"Ġcat": 7, "cat": 8, "Ġ": 1, "Ċ": 2, "Ã©": 3, "<|end|>": 4}
    marked = {"▁cat": 7, "cat": 9, "▁": 1, "<0x0A>": 5, "é": 6, "▁▁x": 11}
    assert normalise(byte_level) == {b" cat": 7, b"cat": 8, b" ": 1, b"\n": 2, "é".encode(): 3, b"<|end|>": 4}
    assert normalise(marked) == {b" cat": 7, b"cat": 9, b" ": 1, b"\n": 5, "é".encode(): 6, b"  x": 11}
    found = overlap(byte_level, marked)
    assert (found.size_a, found.size_b, found.shared, found.same_id) == (6, 6, 5, 2)


def test_two_tokens_for_one_text_count_once_with_the_lower_id():
    assert normalise({"<0x41>": 70, "A": 30, "▁x": 1}) == {b"A": 30, b" x": 1}


def test_the_alphabet_is_that_of_byte_level_tokenizers():
    assert set(BYTE_OF) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTE_OF.values()) == list(range(256))


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.integers(0, 99)), st.dictionaries(st.text(), st.integers(0, 99)))
def test_overlap_is_symmetric_and_no_larger_than_either(a, b):
    one, two = overlap(a, b), overlap(b, a)
    assert (one.shared, one.same_id) == (two.shared, two.same_id)
    assert one.same_id <= one.shared <= min(one.size_a, one.size_b)


# --- real pairs ------------------------------------------------------------------------------------------------------


@needs_assets
def test_a_real_pair_is_described_by_what_is_known_of_it(tmp_path):
    names = ("meta-llama__Llama-3.2-3B-Instruct", "Qwen__Qwen2.5-1.5B-Instruct")
    a, b = (model_bench(seed_snapshot(name, tmp_path), side=side) for name, side in zip(names, "ab", strict=True))
    facts = [fact for bench in (a, b) for fact in run(CONFIG, bench).facts.values()]
    output = run(PAIRING, pair_bench(a, b, facts))
    assert output.fired == {"PAR01", "PAR02", "PAR03", "PAR04"}
    assert {finding.severity.value for finding in output.findings} == {"note", "ok"}
    assert (output.facts["adapter_a_parameters"].value, output.facts["adapter_b_parameters"].value) == (
        4_354_049,
        2_378_753,
    )
    assert "of 128,256 and 151,665" in output.claim("PAR02")
    assert {evidence.level for f in output.findings for evidence in f.evidence} == {Level.INSPECTED}
