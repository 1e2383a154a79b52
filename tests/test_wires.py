from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from tests.rigs import BOS, EOS, SPEC, tokenizer
from tests.shipped_wires import made
from wirecheck.limits import one_line
from wirecheck.schema import WireSpec
from wirecheck.wires import parameter_count
from wirecheck.wires.adapter import Adapter, TableStatistics, read_table, root_mean_square
from wirecheck.wires.attention import sinusoid
from wirecheck.wires.bytes_encoder import BytesEncoder, read_bytes
from wirecheck.wires.failure import StepFailed, part
from wirecheck.wires.initial import initialise
from wirecheck.wires.receiver import ANCHOR, anchor_ids, answer_ids, pad_right
from wirecheck.wires.text_wire import adapter_of


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def table(D: int, rms: float = 0.01) -> TableStatistics:
    generator = torch.Generator().manual_seed(3)
    mean_D = rms * 0.3 * torch.randn(D, generator=generator)
    std_D = rms * torch.rand(D, generator=generator)
    return TableStatistics(mean_D, std_D, (mean_D.square() + std_D.square()).mean().sqrt())


def encoder(seed: int = 0) -> BytesEncoder:
    built = BytesEncoder(SPEC.latent_width, SPEC.latent_length, SPEC.max_bytes)
    initialise(built, seed)
    return built


def adapter(D: int = 48) -> Adapter:
    built = adapter_of(SPEC, table(D))
    initialise(built, 1)
    return built


# --- sizes


@pytest.mark.parametrize(("hidden", "millions"), [(1536, 2.38), (2048, 3.04), (3072, 4.35), (3584, 5.01), (4096, 5.67)])
def test_the_counts_are_those_of_the_real_wire(hidden, millions):
    count = parameter_count(WireSpec(), hidden)
    assert round(count.encoder / 1e6, 2) == 5.41
    assert round(count.adapter / 1e6, 2) == millions


@pytest.mark.parametrize("spec", [WireSpec(), WireSpec(latent_length=8, latent_width=64), SPEC])
@pytest.mark.parametrize("hidden", [48, 1536])
def test_the_arithmetic_is_the_module(spec, hidden):
    with torch.device("meta"):
        built = BytesEncoder(spec.latent_width, spec.latent_length, spec.max_bytes)
        statistics = TableStatistics(torch.empty(hidden), torch.empty(hidden), torch.empty(()))
        own = adapter_of(spec, statistics)
    assert parameter_count(spec, hidden) == (size(built), size(own))


def test_the_names_of_the_wires_load_no_torch():
    code = "import sys, wirecheck.wires as w; w.parameter_count(w.WireSpec(), 4096); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- initial values


def test_the_start_depends_on_the_seed_alone():
    torch.manual_seed(1)
    one = encoder().state_dict()
    torch.manual_seed(2)
    again, other = encoder().state_dict(), encoder(7).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["embed.weight"], other["embed.weight"])


def test_building_leaves_the_scale_of_every_weight_where_the_table_says():
    built = encoder()
    Z = SPEC.latent_width
    assert built.embed.weight.std().item() == pytest.approx(1, rel=0.05)
    assert built.pooler.queries_MZ.std().item() == pytest.approx(Z**-0.5, rel=0.2)
    assert built.layers[0].feed_forward.wide.weight.std().item() == pytest.approx(math.sqrt(2 / (5 * Z)), rel=0.05)
    assert not built.layers[0].attention.query.bias.any()
    assert adapter().scale.item() == 1


# --- bytes to latent


def test_padding_bytes_change_nothing():
    both = read_bytes(["short", "a text that is much longer than the other"], SPEC.max_bytes)
    alone = read_bytes(["short"], SPEC.max_bytes)
    z_BMZ = encoder()(*both)
    torch.testing.assert_close(z_BMZ[0], encoder()(*alone)[0], rtol=1e-4, atol=1e-5)
    other_bytes = both.bytes_BT.masked_fill(~both.mask_BT, 65)
    assert torch.equal(z_BMZ, encoder()(other_bytes, both.mask_BT))


def test_without_its_mask_padding_changes_the_latent():
    both = read_bytes(["short", "a text that is much longer than the other"], SPEC.max_bytes)
    unmasked = encoder()(both.bytes_BT, torch.ones_like(both.mask_BT))
    assert (encoder()(*both) - unmasked)[0].abs().max() > 0.05


def test_a_long_source_is_cut_and_never_overruns():
    long = read_bytes(["é" * 500, "x"], SPEC.max_bytes)
    assert long.lengths_B.tolist() == [SPEC.max_bytes, 1]
    assert encoder()(*long).shape == (2, 4, 64)
    with pytest.raises(ValueError, match="129 bytes, but the encoder's sinusoid holds 128"):
        encoder()(*read_bytes(["x" * 129], 129))


def test_an_empty_source_gives_a_finite_latent():
    source = read_bytes(["", "abc"], SPEC.max_bytes)
    assert source.lengths_B.tolist() == [1, 3]
    assert encoder()(*source).isfinite().all()


def test_bytes_are_utf8():
    assert read_bytes(["é東"], 16).bytes_BT.tolist() == [list("é東".encode())]


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="latent width 100 is not divisible by the encoder's 8 heads"):
        made(latent_width=100)


def test_the_sinusoid_is_the_formula():
    p_TZ = sinusoid(9, 64)
    assert p_TZ.shape == (9, 64)
    assert p_TZ[8, 10].item() == pytest.approx(math.sin(8 / 10_000 ** (10 / 64)), abs=1e-6)
    assert p_TZ[8, 11].item() == pytest.approx(math.cos(8 / 10_000 ** (10 / 64)), abs=1e-6)


def test_order_of_the_bytes_is_read():
    z_BMZ = encoder()(*read_bytes(["ab", "ba"], 8))
    assert (z_BMZ[0] - z_BMZ[1]).abs().max() > 1e-3


def test_the_gate_chooses_between_the_query_and_what_it_read():
    pooler = encoder().pooler
    x_BTZ, mask_BT = torch.randn(2, 7, 64), torch.ones(2, 7, dtype=torch.bool)
    q_BMZ = pooler.queries_MZ.expand(2, -1, -1)
    r_BMZ = q_BMZ + pooler.attention(q_BMZ, x_BTZ, mask_BT)
    for bias, chosen_BMZ in ((-100, q_BMZ), (100, r_BMZ), (0, (q_BMZ + r_BMZ) / 2)):
        nn.init.zeros_(pooler.gate.weight)
        nn.init.constant_(pooler.gate.bias, bias)
        expected_BMZ = chosen_BMZ + pooler.feed_forward(pooler.feed_forward_norm(chosen_BMZ))
        torch.testing.assert_close(pooler(x_BTZ, mask_BT), expected_BMZ)


# --- latent to prefix


def test_the_body_starts_at_rms_one_and_the_prefix_at_the_tables():
    own = adapter()
    source = read_bytes(["one text", "another, longer"], 16)
    z_BMZ = encoder()(*source)
    assert root_mean_square(own.body(z_BMZ, source.lengths_B / 16)).item() == pytest.approx(1, rel=1e-3)
    prefix_BMD = own(z_BMZ, source.lengths_B / 16)
    rows = root_mean_square(prefix_BMD, dim=(1, 2)).flatten()
    torch.testing.assert_close(rows, own.rms.expand(2), rtol=1e-4, atol=0)


def test_colour_gives_each_dimension_the_tables_mean_and_deviation():
    own = adapter()
    x_BMD = 5 + 3 * torch.randn(4000, 4, 48, generator=torch.Generator().manual_seed(0))
    coloured = own.colour(x_BMD).flatten(0, 1)
    torch.testing.assert_close(coloured.mean(dim=0), own.mean_D, rtol=0, atol=3e-4)
    torch.testing.assert_close(coloured.std(dim=0), own.std_D, rtol=0.05, atol=1e-5)


def test_no_row_of_the_prefix_depends_on_its_neighbours():
    own, z_BMZ = adapter(), encoder()(*read_bytes(["one", "two"], 8))
    length_B = torch.tensor([0.3, 0.3])
    alone = own(z_BMZ[:1], length_B[:1])
    torch.testing.assert_close(own(z_BMZ, length_B)[:1], alone, rtol=1e-4, atol=1e-7)


def test_the_scalar_scales_what_the_model_is_given():
    own, z_BMZ = adapter(), encoder()(*read_bytes(["one"], 8))
    before = own(z_BMZ, torch.tensor([0.3]))
    nn.init.constant_(own.scale, 2)
    assert torch.equal(own(z_BMZ, torch.tensor([0.3])), 2 * before)


def test_length_and_slot_are_told_to_the_adapter():
    own, z_BMZ = adapter(), encoder()(*read_bytes(["one"], 8))
    assert not torch.equal(own(z_BMZ, torch.tensor([0.3])), own(z_BMZ, torch.tensor([0.9])))
    same_MZ = z_BMZ[:, :1].expand(-1, 4, -1)
    tokens = own(same_MZ, torch.tensor([0.3]))[0]
    assert not torch.equal(tokens[0], tokens[1])


# --- the table


def test_statistics_are_of_the_tokens_and_leave_padding_rows_out(monkeypatch):
    monkeypatch.setattr("wirecheck.wires.adapter.ROWS_AT_ONCE", 7)
    embedding = nn.Embedding(40, 6, dtype=torch.bfloat16)
    embedding.weight.data[30:] = 1000
    found, rows = read_table(embedding, 30), embedding.weight.data[:30].double()
    torch.testing.assert_close(found.mean_D, rows.mean(dim=0).float())
    torch.testing.assert_close(found.std_D, rows.std(dim=0, correction=0).float())
    assert found.rms.item() == pytest.approx(rows.square().mean().sqrt().item())


def test_statistics_are_of_what_the_module_gives_not_of_its_weight():
    class Scaled(nn.Embedding):
        def forward(self, ids):
            return super().forward(ids) * 8

    embedding = Scaled(20, 6)
    assert read_table(embedding, 20).rms.item() == pytest.approx(8 * embedding.weight.square().mean().sqrt().item())


# --- text to ids


def test_the_anchor_has_the_bos_that_the_tokenizer_adds_and_no_other():
    with_bos, without = tokenizer(bos=True), tokenizer(bos=False)
    text = without.encode(ANCHOR)
    assert anchor_ids(with_bos) == [BOS, *text]
    assert without.bos_token_id == BOS
    assert anchor_ids(without) == text


def test_the_anchor_ends_without_a_space_and_the_answer_begins_with_one():
    tok = tokenizer(bos=True)
    ids = answer_ids(tok, "Paris", 24)
    assert tok.decode(anchor_ids(tok)[1:] + ids[:-1]) == "Answer: Paris"
    assert ids[-1] == EOS


def test_a_long_answer_is_cut_before_its_eos():
    ids = answer_ids(tokenizer(bos=False), "abcdefgh", 4)
    assert len(ids) == 4
    assert ids[-1] == EOS
    assert answer_ids(tokenizer(bos=False), "abc", 1) == [EOS]


def test_an_answer_without_an_eos_is_the_text_alone():
    tok = tokenizer(bos=False)
    tok.eos_token = None
    assert tok.decode(answer_ids(tok, "abc", 24)) == " abc"


def test_rows_are_padded_on_the_right_and_the_mask_tells():
    ids, mask = pad_right([[5], [7, 8]])
    assert ids.tolist() == [[5, 0], [7, 8]]
    assert mask.tolist() == [[True, False], [True, True]]


# --- failures


def test_a_failure_names_its_part_and_what_it_was_given():
    with (
        pytest.raises(StepFailed, match=r"^model a: RuntimeError: .* \(given x \[2, 3\] float32 cpu\)$"),
        part("model a", x=torch.zeros(2, 3)),
    ):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


def test_a_failure_is_told_by_its_innermost_part():
    with pytest.raises(StepFailed, match=r"^inner: ValueError: no$"), part("outer"), part("inner"):
        raise ValueError("no")


def test_too_little_memory_is_no_failure_of_the_wire():
    with pytest.raises(MemoryError, match="for model a"), part("model a"):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")


def test_a_message_keeps_nothing_that_changes_from_run_to_run():
    error = ValueError("in /home/x/lib/file.py:\n <object at 0x7f00ab> " + "y" * 400)
    assert one_line(error).startswith("in file.py: <object at 0x…>")
    assert len(one_line(error)) == 300
