"""EMB11: real weights that know language under their own config, and know none under another."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import real_models
from tests.benches import Output, model_bench, run
from tests.factories import SHARED, needs_assets
from tests.test_real_weights import fetched
from wirecheck import plain_text, zoo
from wirecheck.demo import demo_folders
from wirecheck.errors import CannotRun
from wirecheck.probe import ModelBench
from wirecheck.probes.meaning import MEANING
from wirecheck.schema import TrainSpec

LLAMA, QWEN = demo_folders()
STORIES = SHARED / "assets" / "weights" / "stories260K"
WIDE = TrainSpec(dtype="float32")


def copied(folder: Path, target: Path, **changed: Any) -> Path:
    """The folder under a config with other fields."""
    shutil.copytree(folder, target, copy_function=shutil.copyfile)
    target.chmod(0o755)
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changed
    (target / "config.json").chmod(0o644)
    (target / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    return target


def meaning(folder: Path, train: TrainSpec = WIDE) -> Output:
    return run(MEANING, model_bench(folder, train=train))


def heads(folder: Path, factor: int) -> dict[str, Any]:
    """The same tensors read as `factor` times as many heads, each as much narrower."""
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    count = fields["num_attention_heads"]
    return {
        "num_attention_heads": count * factor,
        "num_key_value_heads": fields["num_key_value_heads"] * factor,
        "head_dim": fields["hidden_size"] // count // factor,
    }


@pytest.mark.parametrize("folder", [LLAMA, QWEN], ids=lambda folder: folder.name)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_emb11_silent_on_the_demo_models(folder: Path, dtype: str) -> None:
    out = meaning(folder, TrainSpec(dtype=dtype))
    assert out.severity("EMB11") == "ok"
    assert 0 < out.facts["text_loss"].value < 1
    assert out.facts["text_gain"].value > 5


@needs_assets
def test_emb11_silent_on_a_model_of_children_s_tales_by_its_own_passage() -> None:
    out = meaning(STORIES)
    assert out.severity("EMB11") == "ok"
    assert "(a tale)" in out.of("EMB11")[0].evidence[0].source


@pytest.mark.parametrize("folder", [LLAMA, QWEN], ids=lambda folder: folder.name)
def test_emb11_heads_split_wrongly(tmp_path: Path, folder: Path) -> None:
    out = meaning(copied(folder, tmp_path / "m", **heads(folder, 2)))
    assert out.severity("EMB11") == "warn"
    assert "on none of 11 passages is its loss below a quarter of pure chance" in out.claim("EMB11")


@needs_assets
def test_emb11_heads_split_wrongly_in_a_model_of_tales(tmp_path: Path) -> None:
    assert meaning(copied(STORIES, tmp_path / "m", **heads(STORIES, 2))).severity("EMB11") == "warn"


def test_emb11_weights_under_the_config_of_another_family(tmp_path: Path) -> None:
    other = {"model_type": "cohere", "architectures": ["CohereForCausalLM"]}
    out = meaning(copied(LLAMA, tmp_path / "m", **other))
    assert out.severity("EMB11") == "warn"
    assert out.claim("EMB11").startswith("CohereForCausalLM knows no plain text")


def broken(change: Any) -> Output:
    bench = model_bench(LLAMA, train=WIDE)
    change(bench.weights)
    return run(MEANING, bench)


def constant(model: Any) -> None:
    table = model.get_input_embeddings().weight
    rows = torch.nn.Parameter(table.mean(0, keepdim=True).expand_as(table).clone())
    model.lm_head.weight = torch.nn.Parameter(table.detach().clone())
    model.get_input_embeddings().weight = rows


def nan(model: Any) -> None:
    model.model.norm.weight.data.fill_(float("nan"))


def random(model: Any) -> None:
    for p in model.parameters():
        p.data.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("change", [constant, random])
def test_emb11_weights_that_know_nothing(change: Any) -> None:
    out = broken(change)
    assert out.severity("EMB11") == "warn"
    assert abs(out.facts["text_gain"].value) < 0.5


def test_emb11_a_loss_that_is_no_number() -> None:
    out = broken(nan)
    assert out.severity("EMB11") == "warn"
    assert out.facts == {}
    assert out.of("EMB11")[0].evidence[0].observed == "not finite"


def test_emb11_a_wrong_rope_theta_is_not_claimed_to_show(tmp_path: Path) -> None:
    """What the docstring of NEAR_CHANCE says: short texts hardly tell."""
    rope = {"rope_type": "default", "rope_theta": 500_000.0}
    out = meaning(copied(LLAMA, tmp_path / "m", rope_theta=500_000.0, rope_parameters=rope))
    assert out.severity("EMB11") == "ok"
    assert out.facts["text_loss"].value > meaning(LLAMA).facts["text_loss"].value


class Letters:
    """A tokenizer of 26 letters and a space."""

    bos_token_id = None

    def encode(self, text: str, **_: Any) -> list[int]:
        return [ord(c) - 96 if c.isalpha() else 0 for c in text.lower() if c.isascii()]


class Nothing(Letters):
    def encode(self, text: str, **_: Any) -> list[int]:
        return []


class PastTheRows(Letters):
    def encode(self, text: str, **_: Any) -> list[int]:
        return [10_000, 10_001]


@pytest.mark.parametrize("kind", [Nothing, PastTheRows])
def test_emb11_a_tokenizer_that_makes_nothing_of_the_text(kind: type[Letters]) -> None:
    bench = model_bench(LLAMA, train=WIDE)
    bench.__dict__["tokenizer"] = kind()
    with pytest.raises(CannotRun, match="no ids of plain text"):
        run(MEANING, bench)


def test_the_loss_is_that_of_the_library_row_by_row() -> None:
    bench: ModelBench = model_bench(LLAMA, train=WIDE)
    found = plain_text.predict(bench.weights, bench.tokenizer, seed=0, quiet=zoo.quiet)
    before, texts = plain_text.passage_ids(bench.tokenizer)
    assert before == [bench.tokenizer.bos_token_id]
    for name, ids in texts.items():
        row = torch.tensor([[*before, *ids]])
        with torch.no_grad():
            loss = bench.weights(input_ids=row, labels=row, use_cache=False).loss
        assert found.losses[name] == pytest.approx(loss.item(), rel=1e-4)
    assert found.chance == pytest.approx(math.log(1024))
    assert found.num_tokens == sum(map(len, texts.values()))


def test_passages_of_other_tokens_than_a_tokenizer_knows_are_left_out() -> None:
    before, texts = plain_text.passage_ids(Letters())
    assert before == []
    assert set(plain_text.PASSAGES) - set(texts) == {"Chinese", "Japanese"}
    assert max(map(len, texts.values())) == plain_text.MOST_TOKENS


@pytest.mark.packages
def test_emb11_silent_on_a_real_model() -> None:
    assert meaning(fetched(real_models.SMOLLM2), TrainSpec()).severity("EMB11") == "ok"
