"""CFG11: what the user wrote down about a model, against what the probes established."""

from __future__ import annotations

import pytest

from tests.benches import config_folder, model_bench, run, run_short
from wirecheck.demo import demo_folders
from wirecheck.expectations import KNOWN_KEYS, compare, same
from wirecheck.probe_run import run_one
from wirecheck.probes import MODEL_PROBES
from wirecheck.probes.config import CONFIG
from wirecheck.probes.expectations import EXPECTATIONS
from wirecheck.schema import Expectation, Fact, Level, Policy

FACTS = (
    Fact(key="vocab_size", subject="a", value=32_768, level=Level.DECLARED, source="config.json@0#vocab_size"),
    Fact(key="vocab_size", subject="b", value=7, level=Level.INSPECTED, source="config.json@1#vocab_size"),
    Fact(key="tied", subject="a", value=True, level=Level.DECLARED, source="config.json@0#tie_word_embeddings"),
)


def expecting(tmp_path, *expected: Expectation):
    policy = Policy(expectations=expected)
    return run(EXPECTATIONS, model_bench(config_folder(tmp_path), policy=policy, facts=FACTS))


def test_cfg11_fires_on_a_fact_that_is_not_so(tmp_path):
    output = expecting(tmp_path, Expectation(subject="a", key="vocab_size", value=32_000))
    assert output.severity("CFG11") == "block"
    assert output.claim("CFG11") == "vocab_size is 32768, not 32000 as expected."


def test_cfg11_fires_on_a_key_that_nothing_established_and_lists_the_known(tmp_path):
    output = expecting(tmp_path, Expectation(subject="a", key="vocabulary", value=32_768))
    (finding,) = output.findings
    assert finding.severity == "block"
    assert "no probe established it" in finding.claim
    assert finding.remedy.endswith("established: tied, vocab_size.")


def test_cfg11_leaves_a_known_key_open_that_this_run_did_not_come_to(tmp_path):
    asked = [
        Expectation(subject="a", key=key, value=value)
        for key, value in (("turn_end", "</s>"), ("vocab_size", 32_768), ("bos_id", 1))
    ]
    bench = model_bench(config_folder(tmp_path), policy=Policy(expectations=asked), facts=FACTS)
    output, why = run_short(EXPECTATIONS, bench)
    assert why == "no probe of this run established turn_end, bos_id"
    assert [finding.claim for finding in output.findings] == ["vocab_size is 32768, as expected."]


def test_known_keys_are_those_that_probes_yield(tmp_path):
    keys = set()
    for folder in demo_folders():
        bench = model_bench(folder)
        for probe in MODEL_PROBES:
            made = run_one(probe, bench)
            bench.facts += made.facts
            keys |= {fact.key for fact in made.facts}
    rare = {
        "sliding_window": 512,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "quantization_config": {"quant_method": "awq"},
    }
    keys |= set(run(CONFIG, model_bench(config_folder(tmp_path, **rare))).facts)
    assert keys == KNOWN_KEYS


def test_cfg11_silent_where_the_expectation_holds(tmp_path):
    output = expecting(tmp_path, Expectation(subject="a", key="vocab_size", value=32_768))
    assert output.severity("CFG11") == "ok"


def test_cfg11_leaves_the_other_side_alone_and_says_when_nothing_was_asked(tmp_path):
    output = expecting(tmp_path, Expectation(subject="b", key="vocab_size", value=1))
    assert output.claim("CFG11") == "No expectation was written down for this model."
    (seen,) = output.of("CFG11")[0].evidence
    assert (seen.level, seen.source, seen.observed) == (Level.INSPECTED, "expectations of this run's policy", 0)


def test_cfg11_takes_the_strongest_fact():
    stronger = Fact(key="tied", subject="a", value=False, level=Level.SIMULATED, source="class")
    (comparison,) = compare([Expectation(subject="a", key="tied", value=False)], (*FACTS, stronger))
    assert comparison.holds
    assert comparison.evidence.level == Level.SIMULATED


@pytest.mark.parametrize(
    ("found", "expected", "is_same"),
    [
        (1, 1, True),
        (1, 1.0, True),
        (True, 1, False),
        (1, True, False),
        ("1", 1, False),
        (None, None, True),
        (None, 0, False),
    ],
)
def test_values_are_compared_with_their_kind(found, expected, is_same):
    assert same(found, expected) is is_same
