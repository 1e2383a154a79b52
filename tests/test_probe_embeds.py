"""The `inputs_embeds` probes, on sound classes and on tiny classes with one planted fault each."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tests.factories import SHARED, needs_assets
from wirecheck import embedding_trial, zoo_weights
from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench
from wirecheck.probes.embeds import EMBEDS_TWIN, EMBEDS_WEIGHTS, check
from wirecheck.schema import Fact, Finding, Level, Policy, Severity, TrainSpec, WireSpec
from wirecheck.snapshot import Snapshot, parse_ref, take

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 200,
}  # fmt: skip
GEMMA3N: dict[str, Any] = {
    **SIZES, "model_type": "gemma3n_text", "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 200,
    "num_kv_shared_layers": 0, "layer_types": ["full_attention"] * 2, "head_dim": 8, "laurel_rank": 8,
}  # fmt: skip
GEMMA4: dict[str, Any] = {
    **SIZES, "model_type": "gemma4_text", "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 200,
    "num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 8,
}  # fmt: skip


def bench(snapshot: Any = None, **train: Any) -> ModelBench:
    asked: dict[str, Any] = {"wire": WireSpec(), "train": TrainSpec(**train), "policy": Policy(), "seed": 0}
    return ModelBench(**asked, side="a", snapshot=snapshot)


def config_folder(tmp_path: Path, fields: dict[str, Any]) -> Snapshot:
    (tmp_path / "config.json").write_text(json.dumps(fields))
    return take(parse_ref(str(tmp_path)))


def tiny(kind: type[Any] = LlamaForCausalLM, config: Any = None) -> Any:
    """A tiny random model of that class, with weights large enough for its logits to differ; frozen, eval."""
    torch.manual_seed(0)
    config = config or LlamaConfig(**SIZES, initializer_range=0.2)
    return kind(config).eval().requires_grad_(False)


def judged(model: Any, level: Level = Level.EXECUTED) -> dict[str, Finding]:
    """The findings on that model by code; the worst where a code has several."""
    found = [f for f in check(bench(), model, level, "test") if isinstance(f, Finding)]
    order = list(Severity)
    return {f.code: f for f in sorted(found, key=lambda f: order.index(f.severity))}


def severities(model: Any) -> dict[str, Severity]:
    return {code: finding.severity for code, finding in judged(model).items()}


SOUND = dict.fromkeys(("EMB01", "EMB02", "CFG10", "EMB03", "CFG03", "EMB05", "EMB10"), Severity.OK)


class Refuses(LlamaForCausalLM):
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None:
            raise NotImplementedError("ids only")
        return super().forward(input_ids=input_ids, **rest)


class RefusesAll(LlamaForCausalLM):
    def forward(self, **rest: Any) -> Any:
        raise ValueError("not today")


class ScalesIdsOnly(LlamaForCausalLM):
    """The scale is applied on the way from ids, not to embeds: Gemma's trap of old, turned round."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is None:
            inputs_embeds = self.model.embed_tokens(input_ids) * 5.0
        return super().forward(inputs_embeds=inputs_embeds, **rest)


class Ignores(LlamaForCausalLM):
    """Keeps the embeds of its first call and uses them ever after."""

    kept: Any = None

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if self.kept is None:
            self.kept = self.model.embed_tokens(input_ids)
        return super().forward(inputs_embeds=self.kept + 0 * (inputs_embeds if input_ids is None else 0), **rest)


class Detaches(LlamaForCausalLM):
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        held = None if inputs_embeds is None else inputs_embeds.detach()
        return super().forward(input_ids=input_ids, inputs_embeds=held, **rest)


class LosesOnePosition(LlamaForCausalLM):
    """The gradient of the first vector is cut; its value is used."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        if inputs_embeds is not None:
            inputs_embeds = torch.cat([inputs_embeds[:, :1].detach(), inputs_embeds[:, 1:]], dim=1)
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)


class _NanBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad * float("nan")


class NanGradient(LlamaForCausalLM):
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        held = None if inputs_embeds is None else _NanBackward.apply(inputs_embeds)
        return super().forward(input_ids=input_ids, inputs_embeds=held, **rest)


class NanLogits(LlamaForCausalLM):
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        out = super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)
        return SimpleNamespace(logits=out.logits * (float("nan") if input_ids is None else 1.0))


class HashRouted(LlamaForCausalLM):
    """Ids choose a shift of the logits, as hash routing chooses an expert; without ids there is none."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        out = super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **rest)
        shift = 0 if input_ids is None else (input_ids % 7)[..., None]
        return SimpleNamespace(logits=out.logits + shift)


class NeedsIds(HashRouted):
    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **rest: Any) -> Any:
        return super().forward(input_ids=input_ids + 0, inputs_embeds=inputs_embeds, **rest)


def test_emb01_02_03_05_10_cfg10_sound_class() -> None:
    assert severities(tiny()) == SOUND


def test_emb01_refused() -> None:
    found = judged(tiny(Refuses))
    assert list(found) == ["EMB01"]
    assert found["EMB01"].severity is Severity.BLOCK
    assert found["EMB01"].claim == "Refuses raises NotImplementedError when given inputs_embeds: ids only"


def test_emb01_twin_that_runs_on_nothing_is_skipped() -> None:
    with pytest.raises(CannotRun, match="does not run on token ids either: not today"):
        judged(tiny(RefusesAll), Level.SIMULATED)


def test_emb01_real_weights_that_run_on_nothing() -> None:
    found = judged(tiny(RefusesAll))
    assert {c: f.severity for c, f in found.items()} == {"EMB01": Severity.BLOCK}
    assert (
        "raises ValueError on its real weights, given token ids, before any embeds: not today" in found["EMB01"].claim
    )


@pytest.mark.parametrize("kind", [ScalesIdsOnly, NanLogits])
def test_emb02_other_logits(kind: type[Any]) -> None:
    assert severities(tiny(kind))["EMB02"] is Severity.BLOCK


def test_emb02_scale_in_the_module_is_named() -> None:
    config = Gemma2Config(**SIZES, head_dim=8, initializer_range=0.2)
    found = judged(tiny(Gemma2ForCausalLM, config))
    assert found["EMB02"].severity is Severity.NOTE
    assert "embed(ids) is 5.657 x weight[ids]" in found["EMB02"].claim
    assert found["EMB10"].severity is Severity.NOTE
    assert {c for c, f in found.items() if f.severity is Severity.OK} == {"EMB01", "CFG10", "EMB03", "CFG03", "EMB05"}


def test_emb02_holds_in_bfloat16() -> None:
    assert severities(tiny().to(torch.bfloat16)) == SOUND


def test_emb03_ignored() -> None:
    found = severities(tiny(Ignores))
    assert (found["EMB02"], found["EMB03"], found["EMB05"]) == (Severity.OK, Severity.BLOCK, Severity.BLOCK)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Detaches, "backward raises"),
        (LosesOnePosition, "zero or not finite at 2 of the 22 vectors"),
        (NanGradient, "zero or not finite at 22 of the 22 vectors"),
    ],
)
def test_emb05_gradient_lost(kind: type[Any], words: str) -> None:
    found = judged(tiny(kind))
    assert {c for c, f in found.items() if f.severity is Severity.BLOCK} == {"EMB05"}
    assert words in found["EMB05"].claim


def test_emb05_counts_parameters_left_trainable() -> None:
    evidence = judged(tiny().requires_grad_())["EMB05"].evidence
    assert [e.observed for e in evidence if e.source.startswith("parameters")] == [21]


def test_emb10_shift_after_the_embedding() -> None:
    config = GPT2Config(n_embd=32, n_head=4, n_layer=2, n_positions=64, vocab_size=200, initializer_range=0.2)
    found = judged(tiny(GPT2LMHeadModel, config))
    assert found["EMB10"].severity is Severity.NOTE
    assert "soft tokens and words alike" in found["EMB10"].claim
    assert found["EMB02"].severity is Severity.OK


def test_cfg10_ids_read_by_a_second_way() -> None:
    found = severities(tiny(HashRouted))
    assert (found["EMB02"], found["CFG10"]) == (Severity.BLOCK, Severity.BLOCK)


def test_cfg10_named_beside_the_refusal_it_causes() -> None:
    assert severities(tiny(NeedsIds)) == {"EMB01": Severity.BLOCK, "CFG10": Severity.BLOCK}


@pytest.mark.parametrize(
    ("fields", "words"), [(GEMMA3N, "by a second way"), (GEMMA4, "only vectors of its own table")], ids=["3n", "4"]
)
def test_cfg10_per_layer_embeddings(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    found = [f for f in EMBEDS_TWIN.run(bench(config_folder(tmp_path, fields))) if isinstance(f, Finding)]
    (claim,) = [f.claim for f in found if f.code == "CFG10" and f.severity is Severity.BLOCK]
    assert words in claim


def test_twin_probe_states_the_scale_at_the_model_s_own_width(tmp_path: Path) -> None:
    fields = {**SIZES, "model_type": "gemma2", "hidden_size": 400, "head_dim": 8}
    yielded = list(EMBEDS_TWIN.run(bench(config_folder(tmp_path, fields))))
    facts = {f.key: f for f in yielded if isinstance(f, Fact)}
    assert (facts["embedding_scale"].value, facts["embedding_scale"].level) == (20.0, Level.SIMULATED)
    assert "embedding_rms" not in facts
    (claim,) = [f.claim for f in yielded if isinstance(f, Finding) and f.code == "EMB10"]
    assert "by 8 (the root of the twin's width; 20 at the model's 400)" in claim


def test_twin_probe_says_what_the_twin_is(tmp_path: Path) -> None:
    yielded = EMBEDS_TWIN.run(bench(config_folder(tmp_path, {**SIZES, "model_type": "llama"})))
    evidence = {e.source: e.observed for f in yielded if isinstance(f, Finding) for e in f.evidence}
    assert "attention GQA" in str(evidence["kept of the model; twin forward, seed 0"])
    assert "hidden_size 32 -> 64" in str(evidence["made smaller; twin forward, seed 0"])


def test_twin_probe_repeats_itself_word_for_word(tmp_path: Path) -> None:
    snapshot = config_folder(tmp_path, {**SIZES, "model_type": "llama"})
    assert list(EMBEDS_TWIN.run(bench(snapshot))) == list(EMBEDS_TWIN.run(bench(snapshot)))


@needs_assets
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_real_weights(dtype: str) -> None:
    snapshot = take(parse_ref(str(SHARED / "assets" / "weights" / "stories260K")))
    yielded = list(EMBEDS_WEIGHTS.run(bench(snapshot, dtype=dtype)))
    findings = [f for f in yielded if isinstance(f, Finding)]
    assert {f.code: f.severity for f in findings} == SOUND
    assert {f.level for f in findings} == {Level.EXECUTED}
    facts = {f.key: f.value for f in yielded if isinstance(f, Fact)}
    assert facts["embedding_scale"] == 1.0
    table = zoo_weights.load_weights(snapshot, dtype="float32", trust_remote_code=False).get_input_embeddings().weight
    assert facts["embedding_rms"] == pytest.approx(float(table.square().mean().sqrt()), rel=2e-3)


def test_ids_are_spread_over_the_vocabulary_and_no_special_one_among_them() -> None:
    ids = embedding_trial.some_ids(2400, {7, 1200}, seed=0).flatten().tolist()
    assert sorted(i // 100 for i in ids) == list(range(24))
    assert not {7, 1200} & set(ids)
    crowded = embedding_trial.some_ids(4, {0, 1, 2}, seed=0)
    assert set(crowded.flatten().tolist()) == {3}
