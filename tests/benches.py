"""Benches on folders made by the test, and one way to run a probe on them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.said import note
from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench, PairBench, Probe, Yielded
from wirecheck.schema import LADDER, Fact, Finding, MemoryEstimate, Policy, TrainSpec, WireSpec
from wirecheck.snapshot import parse_ref, take

SEEDS = (
    *("meta-llama__Llama-3.1-8B-Instruct", "meta-llama__Llama-3.2-1B-Instruct", "meta-llama__Llama-3.2-3B-Instruct"),
    *("Qwen__Qwen2.5-7B-Instruct", "Qwen__Qwen2.5-1.5B-Instruct", "mistralai__Mistral-7B-Instruct-v0.3"),
)

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "dtype": "bfloat16",
    "head_dim": 16,
    "hidden_size": 64,
    "intermediate_size": 160,
    "max_position_embeddings": 2048,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "transformers_version": "5.0.0",
    "vocab_size": 512,
}
"""A small sound config.json."""


@dataclass(frozen=True)
class Output:
    """What a probe yielded."""

    findings: tuple[Finding, ...]
    facts: dict[str, Fact]
    estimates: tuple[MemoryEstimate, ...]

    def of(self, code: str) -> list[Finding]:
        """The findings of one code."""
        return [finding for finding in self.findings if finding.code == code]

    def severity(self, code: str) -> str:
        """The severity of the only finding of one code."""
        (finding,) = self.of(code)
        return finding.severity.value

    def claim(self, code: str) -> str:
        """The claim of the only finding of one code."""
        (finding,) = self.of(code)
        return finding.claim

    @property
    def fired(self) -> set[str]:
        """Codes with a finding that is not ok."""
        return {finding.code for finding in self.findings if finding.severity != "ok"}


def config_folder(folder: Path, config: object = LLAMA, *, without: tuple[str, ...] = (), **changed: object) -> Path:
    """A folder with one config.json: `config` (an object, or text as it stands) with some keys changed or left out."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(config, dict):
        config = {key: value for key, value in (config | changed).items() if key not in without}
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return folder


def model_bench(folder: Path, *, side="a", wire=None, train=None, policy=None, facts=()) -> ModelBench:
    """A bench on what lies in `folder`, with default options."""
    return ModelBench(
        wire=wire or WireSpec(),
        train=train or TrainSpec(),
        policy=policy or Policy(),
        seed=0,
        side=side,
        snapshot=take(parse_ref(str(folder)), offline=True),
        facts=tuple(facts),
    )


def pair_bench(a: ModelBench, b: ModelBench, facts=()) -> PairBench:
    """A bench of two models, with the options of the first."""
    return PairBench(wire=a.wire, train=a.train, policy=a.policy, seed=0, a=a, b=b, facts=tuple(facts))


def run_short(probe: Probe, bench: ModelBench | PairBench) -> tuple[Output, str]:
    """Everything a probe yields before it cannot go on, and why it cannot."""
    yielded: list[Yielded] = []
    with pytest.raises(CannotRun) as why:
        yielded.extend(probe.run(bench))  # what came before the error is kept
    return _output(probe, yielded), why.value.reason


def run(probe: Probe, bench: ModelBench | PairBench) -> Output:
    """Everything a probe yields; its findings keep to its codes and each reaches its rung."""
    output = _output(probe, list(probe.run(bench)))
    assert output.findings, "a probe that claims nothing is a crash"
    return output


def _output(probe: Probe, yielded: list[Yielded]) -> Output:
    note(yielded)
    findings = tuple(item for item in yielded if isinstance(item, Finding))
    assert {finding.code for finding in findings} <= set(probe.codes)
    assert all(LADDER.index(finding.level) >= LADDER.index(probe.level) for finding in findings)
    return Output(
        findings=findings,
        facts={item.key: item for item in yielded if isinstance(item, Fact)},
        estimates=tuple(item for item in yielded if isinstance(item, MemoryEstimate)),
    )
