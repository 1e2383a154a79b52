"""docs/incidents.md keeps its word; and the replays of what no other test replays."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import torch

from tests import rigs
from tests.benches import config_folder, model_bench, run
from tests.test_readings import Confused, Sender, unlike
from tests.wire_cases import KeysAndValues, ask
from tests.wire_checks import findings, own, the
from wirecheck.codes import CODES
from wirecheck.probe import PairBench
from wirecheck.probes.config import CONFIG
from wirecheck.probes.wire_use_reading import reads_its_own

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "incidents.md").read_text(encoding="utf-8")


def rows() -> dict[int, list[str]]:
    """The cells of each numbered line of the table."""
    cells = (line.strip("|").split(" | ") for line in PAGE.splitlines() if re.match(r"\| \d", line))
    return {int(row[0]): row for row in cells}


def test_all_twenty_are_there():
    assert list(rows()) == list(range(1, 21))


def test_every_code_named_exists():
    named = {code for row in rows().values() for code in re.findall(r"[A-Z]{3}\d\d", row[2])}
    assert len(named) > 15
    assert named <= set(CODES)


def test_every_replay_named_exists():
    named = [(file, name) for row in rows().values() for file, name in re.findall(r"`(\w+\.py)::(\w+)`", row[3])]
    assert len(named) > 20
    for file, name in named:
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


def test_what_is_not_caught_is_said_below():
    in_part = [number for number, row in rows().items() if "not caught" in row[2] or "in part" in row[2]]
    below = PAGE[PAGE.index("## Not caught") :]
    assert in_part == [9, 10, 14]
    assert all(re.search(rf"\*\*{number}\*\*", below) for number in in_part)


def unlike_bench() -> PairBench:
    bench = rigs.bench()
    bench.b.__dict__["tokenizer"] = unlike()[1].tokenizer
    return bench


def test_6_a_sender_is_fed_the_receivers_ids():
    output, untold = ask(reads_its_own, Confused, unlike_bench())
    assert untold == ""
    assert [finding.severity for finding in output.of("WIR19")] == ["block", "ok"]
    assert "given to A" in output.of("WIR19")[0].claim


def test_6_a_sender_fed_its_own_ids_is_sound():
    output, untold = ask(reads_its_own, Sender, unlike_bench())
    assert (output.fired, untold) == (set(), "")
    assert len(output.of("WIR19")) == 2


class QueryHeads(KeysAndValues):
    """As many heads of keys and values as there are of queries."""

    def loss(self, batch):
        for one in self.models.values():
            one.model.config.num_key_value_heads = one.model.config.num_attention_heads
        try:
            for side, one in self.models.items():
                config = one.model.config
                size = 2 * config.num_hidden_layers * config.num_attention_heads * self._head_dim(side)
                self.net.project[side] = torch.nn.Linear(self.net.embed.weight.shape[1], size)
            return super().loss(batch)
        finally:
            for one in self.models.values():
                one.model.config.num_key_value_heads = 2


def test_7_keys_and_values_with_the_heads_of_queries():
    (finding,) = (finding for finding in own(QueryHeads).findings if finding.code == "WIR01")
    assert finding.severity == "block"
    assert "Sizes of tensors must match" in str(finding.evidence[0].observed)


def test_7_keys_and_values_with_their_own_heads_run():
    assert the(findings(KeysAndValues), "WIR01").severity == "ok"


def test_7_head_dim_is_read_and_never_divided(tmp_path):
    wide = config_folder(tmp_path, head_dim=32)
    assert run(CONFIG, model_bench(wide)).facts["head_dim"].value == 32
