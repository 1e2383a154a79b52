"""Tokenizer and template probes on recorded real models: the truths that are known of them."""

from __future__ import annotations

from functools import cache

import pytest

from tests.factories import SHARED, needs_assets, seed_snapshot
from tests.tokenizer_factory import bench, facts, found, seen
from wirecheck.probe_run import run_one
from wirecheck.probes.template import TEMPLATE
from wirecheck.probes.tokenizer import TOKENIZER
from wirecheck.probes.weights import WEIGHTS
from wirecheck.schema import Finding, ProbeRun, Ran, Severity

pytestmark = needs_assets

SNAPSHOTS = SHARED / "assets" / "snapshots"
LLAMA31, LLAMA1B, LLAMA3B = (
    f"meta-llama__Llama-{size}-Instruct" for size in ("3.1-8B", "3.2-1B", "3.2-3B")
)  # fmt: skip
QWEN7B, QWEN1B = "Qwen__Qwen2.5-7B-Instruct", "Qwen__Qwen2.5-1.5B-Instruct"
MISTRAL = "mistralai__Mistral-7B-Instruct-v0.3"
SEEDS = (LLAMA31, LLAMA1B, LLAMA3B, QWEN7B, QWEN1B, MISTRAL)
OTHERS = {
    "HuggingFaceTB__SmolLM2-135M-Instruct": set(),
    "Qwen__Qwen3-8B": set(),
    "TinyLlama__TinyLlama-1.1B-Chat-v1.0": set(),
    "deepseek-ai__DeepSeek-V3": {"TOK07"},
    "google__gemma-2-2b-it": set(),
    "google__gemma-3-1b-it": {"TOK02"},
    "ibm-granite__granite-3.1-1b-a400m-instruct": set(),
    "internlm__internlm2_5-7b-chat": {"TOK02", "TPL08", "CFG09"},
    "microsoft__phi-2": {"CFG09"},
    "mistralai__Mistral-Nemo-Instruct-2407": set(),
    "openai-community__gpt2": set(),
    "tiiuae__falcon-40b": {"CFG09"},
}
"""Every other model recorded with a tokenizer.json, and the codes that warn of it."""
WITHOUT_VOCABULARY = ("CohereLabs__aya-23-8B", "Qwen__Qwen3-30B-A3B", "Qwen__Qwen3-30B-A3B-FP8")
"""Recorded without one: transformers builds a tokenizer of special tokens alone, without a word."""


@cache
def runs(name: str) -> tuple[ProbeRun, ProbeRun]:
    """Both probes on one recorded model."""
    model = bench(SNAPSHOTS / name)
    return run_one(TOKENIZER, model), run_one(TEMPLATE, model)


def worse_than_a_note(name: str) -> list[Finding]:
    """What warns of, or blocks, a recorded model."""
    return [f for run in runs(name) for f in run.findings if f.severity in (Severity.WARN, Severity.BLOCK)]


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_model_gives_no_warning(name: str) -> None:
    assert all(isinstance(run, Ran) for run in runs(name))
    assert worse_than_a_note(name) == []


@pytest.mark.parametrize(("name", "codes"), OTHERS.items())
def test_a_recorded_model_warns_of_what_is_so(name: str, codes: set[str]) -> None:
    assert all(isinstance(run, Ran) for run in runs(name))
    assert {(f.code, f.severity) for f in worse_than_a_note(name)} == {(code, Severity.WARN) for code in codes}


def test_every_recorded_tokenizer_is_looked_at() -> None:
    assert {p.parent.name for p in SNAPSHOTS.glob("*/tokenizer.json")} == {*SEEDS, *OTHERS}


@pytest.mark.parametrize("name", WITHOUT_VOCABULARY)
def test_a_tokenizer_without_its_vocabulary_is_told(name: str) -> None:
    finding = found(run_one(TOKENIZER, bench(SNAPSHOTS / name)), "TOK01")
    assert finding.severity is Severity.BLOCK
    assert "without its vocabulary" in finding.claim


def test_every_model_recorded_without_a_tokenizer_is_told() -> None:
    names = {p.name for p in SNAPSHOTS.iterdir()} - {*SEEDS, *OTHERS, *WITHOUT_VOCABULARY}
    for name in sorted(names):
        run = run_one(TOKENIZER, bench(SNAPSHOTS / name))
        assert [(f.code, f.severity) for f in run.findings] == [("TOK01", Severity.BLOCK)], name


@pytest.mark.parametrize("name", [LLAMA31, LLAMA1B, LLAMA3B])
def test_llama_has_a_bos_and_no_pad(name: str) -> None:
    tokenizer, template = runs(name)
    known = facts(tokenizer)
    assert (known["num_tokens"], known["padding_rows"]) == (128_256, 0)
    assert (known["bos_id"], known["adds_bos"], known["pad_id"]) == (128_000, True, None)
    assert "<|finetune_right_pad_id|> (128004)" in found(tokenizer, "TOK05").claim
    assert "2 BOS tokens, 37 ids against 36" in found(template, "TPL05").claim
    assert found(template, "CFG09").severity is Severity.NOTE
    assert facts(template)["turn_end"] == "<|eot_id|>"
    assert facts(template)["template_reads_clock"] is (name != LLAMA31)


@pytest.mark.parametrize(("name", "rows", "padding"), [(QWEN7B, 152_064, 399), (QWEN1B, 151_936, 271)])
def test_qwen_has_padding_rows_and_no_bos(name: str, rows: int, padding: int) -> None:
    tokenizer, template = runs(name)
    known = facts(tokenizer)
    assert (known["num_tokens"], known["padding_rows"]) == (151_665, padding)
    assert f"{rows:,} rows for 151,665 tokens: {padding} padding rows" in found(tokenizer, "WGT09").claim
    assert (known["bos_id"], known["adds_bos"], known["pad_token"]) == (None, False, "<|endoftext|>")
    assert "config.json names <|endoftext|> (151643)" in found(tokenizer, "TOK04").claim
    assert found(template, "TPL05").severity is Severity.OK
    assert found(template, "CFG09").severity is Severity.NOTE
    assert facts(template)["stop_ids"] == "151643, 151645"
    assert facts(template)["adds_bos_in_template"] is False


def test_mistral_refuses_an_assistant_first_and_moves_the_system_text() -> None:
    tokenizer, template = runs(MISTRAL)
    known = facts(tokenizer)
    assert (known["num_tokens"], known["bos_id"], known["adds_bos"], known["pad_id"]) == (32_768, 1, True, None)
    assert seen(template, "TPL02") == ["ok", "note"]
    assert "last user turn" in found(template, "TPL04").claim
    assert "2 BOS tokens, 5 ids against 4" in found(template, "TPL05").claim
    assert seen(template, "CFG09") == ["ok"]


def test_rows_are_read_off_the_files_where_they_are_there(tmp_path_factory: pytest.TempPathFactory) -> None:
    model = bench(seed_snapshot(QWEN7B, tmp_path_factory.mktemp("seed")))
    model.facts = run_one(WEIGHTS, model).facts
    evidence = found(run_one(TOKENIZER, model), "WGT09").evidence[-1]
    assert evidence.observed == 152_064
    assert evidence.source.startswith("model-00001-of-00004.safetensors@")
    assert evidence.source.endswith("#model.embed_tokens.weight")


def test_internlm_as_loaded_here_leaves_the_rows() -> None:
    """Its own tokenizer class, not executed, would put the chat marks at 92542 and 92543."""
    finding = found(runs("internlm__internlm2_5-7b-chat")[1], "TOK02")
    assert "<|im_end|> (92548), past the 92,544 rows" in finding.claim
    assert "declares id 92542" in finding.claim


def test_gemma_2_refuses_a_system_turn() -> None:
    assert '("System role not supported")' in found(runs("google__gemma-2-2b-it")[1], "TPL03").claim


def test_qwen3_rewrites_its_answer() -> None:
    finding = found(runs("Qwen__Qwen3-8B")[1], "TPL07")
    assert finding.severity is Severity.NOTE
    assert "<think>" in str(finding.evidence[0].observed)
