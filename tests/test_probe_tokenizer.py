"""The tokenizer probe: each code where it fires and where it must not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import AddedToken

from tests.tokenizer_factory import (
    BOS,
    END,
    PAD,
    SPECIALS,
    VOCABULARY,
    bench,
    byte_level,
    facts,
    found,
    ran,
    save,
    seen,
    unigram,
)
from wirecheck.probe_run import run_one
from wirecheck.probes.tokenizer import TOKENIZER
from wirecheck.probes.vocabulary import TEXTS, Vocabulary
from wirecheck.schema import Fact, Level, Severity, Skipped

SOUND = "test_a_sound_tokenizer_passes_every_check"
pytestmark = pytest.mark.usefixtures("said")


def test_a_sound_tokenizer_passes_every_check(tmp_path: Path) -> None:
    run = ran(TOKENIZER, save(tmp_path))
    assert {f.code for f in run.findings} == set(TOKENIZER.codes)
    assert {f.severity for f in run.findings} == {Severity.OK}
    assert all(any(e.level is Level.INSPECTED for e in f.evidence) for f in run.findings)


def test_facts_are_what_the_tokenizer_does(tmp_path: Path) -> None:
    known = facts(ran(TOKENIZER, save(tmp_path)))
    assert (known["num_tokens"], known["padding_rows"]) == (VOCABULARY, 0)
    assert (known["bos_token"], known["bos_id"], known["adds_bos"]) == ("<s>", BOS, True)
    assert (known["eos_token"], known["eos_id"]) == ("<|im_end|>", END)
    assert (known["pad_token"], known["pad_id"]) == ("<pad>", PAD)


def test_two_runs_say_the_same(tmp_path: Path) -> None:
    folder = save(tmp_path, byte_level([*SPECIALS, "<x>"]), pad_token="<|im_end|>", config={"vocab_size": 258})
    assert ran(TOKENIZER, folder).findings == ran(TOKENIZER, folder).findings


def test_tok01_no_tokenizer_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 260}')
    run = ran(TOKENIZER, tmp_path)
    assert [f.severity for f in run.findings] == [Severity.BLOCK]
    assert found(run, "TOK01").evidence[-1].observed == "none"


def test_tok01_broken_file(tmp_path: Path) -> None:
    (save(tmp_path) / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "BPE"')
    run = ran(TOKENIZER, tmp_path)
    assert [f.severity for f in run.findings] == [Severity.BLOCK]
    assert str(tmp_path) not in found(run, "TOK01").claim


def test_tok01_class_without_its_vocabulary(tmp_path: Path) -> None:
    """transformers makes a tokenizer of the special tokens alone, and says nothing."""
    (save(tmp_path, tokenizer_class="Qwen2Tokenizer") / "tokenizer.json").unlink()
    run = ran(TOKENIZER, tmp_path)
    assert "without its vocabulary" in found(run, "TOK01").claim
    assert len(run.findings) == 1


def test_tok02_role_past_the_rows(tmp_path: Path) -> None:
    finding = found(ran(TOKENIZER, save(tmp_path, config={"vocab_size": VOCABULARY - 1})), "TOK02")
    assert finding.severity is Severity.BLOCK
    assert "<pad> (259), and the pad token reaches" in finding.claim


def test_tok02_text_past_the_rows(tmp_path: Path) -> None:
    core = byte_level(front=["<s>"], added=["Grüße"])
    finding = found(ran(TOKENIZER, save(tmp_path, core)), "TOK02")
    assert finding.severity is Severity.BLOCK
    assert "ordinary text reaches" in finding.claim


def test_tok02_nothing_reaches_it(tmp_path: Path) -> None:
    core = byte_level([*SPECIALS, "<image>"], front=["<s>"])
    finding = found(ran(TOKENIZER, save(tmp_path, core)), "TOK02")
    assert finding.severity is Severity.WARN
    assert "<image> (260)" in finding.claim


def test_tok02_rows_on_file_outrank_the_config(tmp_path: Path) -> None:
    fact = Fact(key="embedding_rows", subject="a", value=258, level=Level.INSPECTED, source="model.safetensors")
    finding = found(ran(TOKENIZER, save(tmp_path), (fact,)), "TOK02")
    assert finding.severity is Severity.BLOCK
    assert finding.evidence[-1].source == "model.safetensors"


def test_tok02_every_id_has_a_row(tmp_path: Path) -> None:
    assert found(ran(TOKENIZER, save(tmp_path)), "TOK02").severity is Severity.OK


def test_tok02_unknown_rows_leave_the_question_open(tmp_path: Path) -> None:
    run = run_one(TOKENIZER, bench(save(tmp_path, config={"vocab_size": None})))
    assert isinstance(run, Skipped)
    assert "how many rows" in run.reason
    assert "TOK10" in {f.code for f in run.findings}


def test_tok03_nothing_stops(tmp_path: Path) -> None:
    folder = save(tmp_path, eos_token=None, config={"eos_token_id": None}, generation={})
    assert found(ran(TOKENIZER, folder), "TOK03").severity is Severity.BLOCK


def test_tok03_only_a_config_names_it(tmp_path: Path) -> None:
    finding = found(ran(TOKENIZER, save(tmp_path, eos_token=None)), "TOK03")
    assert finding.severity is Severity.OK
    assert "names no EOS" in finding.claim


def test_tok04_none_by_design(tmp_path: Path) -> None:
    run = ran(TOKENIZER, save(tmp_path, byte_level(), bos_token=None))
    assert found(run, "TOK04").severity is Severity.NOTE
    assert "although config.json names <s> (256)" in found(run, "TOK04").claim
    assert found(run, "TOK07").severity is Severity.OK
    assert facts(run)["bos_id"] is None
    assert facts(run)["adds_bos"] is False


def test_tok04_there_but_never_added(tmp_path: Path) -> None:
    run = ran(TOKENIZER, save(tmp_path, byte_level()))
    assert found(run, "TOK04").severity is Severity.NOTE
    assert "Encoding adds no BOS" in found(run, "TOK04").claim
    assert found(run, "TOK07").severity is Severity.OK


def test_tok04_added(tmp_path: Path) -> None:
    assert found(ran(TOKENIZER, save(tmp_path)), "TOK04").severity is Severity.OK


@pytest.mark.parametrize(
    ("specials", "named"),
    [
        ([*SPECIALS, "<|reserved_0|>", "<|finetune_right_pad_id|>"], "<|finetune_right_pad_id|> (261)"),
        ([*SPECIALS, "<|tool|>", "<|reserved_0|>"], "<|reserved_0|> (261)"),
    ],
)
def test_tok05_names_a_reserve(tmp_path: Path, specials: list[str], named: str) -> None:
    specials = [s.replace("<pad>", "<q>") for s in specials]
    run = ran(
        TOKENIZER, save(tmp_path, byte_level(specials, front=["<s>"]), pad_token=None, config={"vocab_size": 262})
    )
    assert found(run, "TOK05").severity is Severity.NOTE
    assert named in found(run, "TOK05").claim
    assert facts(run)["pad_id"] is None


def test_tok05_a_reserve_needs_a_row(tmp_path: Path) -> None:
    core = byte_level(["<s>", "<|im_start|>", "<|im_end|>", "<q>", "<|reserved_0|>"], front=["<s>"])
    finding = found(ran(TOKENIZER, save(tmp_path, core, pad_token=None)), "TOK05")
    assert "none that could serve as one" in finding.claim


def test_tok05_a_padding_row_would_do(tmp_path: Path) -> None:
    core = byte_level(SPECIALS[:3], front=["<s>"])
    finding = found(ran(TOKENIZER, save(tmp_path, core, pad_token=None)), "TOK05")
    assert finding.severity is Severity.NOTE
    assert "row 259" in finding.claim


def test_tok05_nothing_would_do(tmp_path: Path) -> None:
    core = byte_level(SPECIALS[:3], front=["<s>"])
    finding = found(ran(TOKENIZER, save(tmp_path, core, pad_token=None, config={"vocab_size": 259})), "TOK05")
    assert finding.severity is Severity.NOTE
    assert "none that could serve as one" in finding.claim


def test_tok05_has_one(tmp_path: Path) -> None:
    assert found(ran(TOKENIZER, save(tmp_path)), "TOK05").severity is Severity.OK


def test_tok06_pad_is_eos(tmp_path: Path) -> None:
    finding = found(ran(TOKENIZER, save(tmp_path, pad_token="<|im_end|>")), "TOK06")
    assert finding.severity is Severity.NOTE
    assert [e.observed for e in finding.evidence] == [0, 2]


def test_tok06_two_tokens(tmp_path: Path) -> None:
    finding = found(ran(TOKENIZER, save(tmp_path)), "TOK06")
    assert finding.severity is Severity.OK
    assert [e.observed for e in finding.evidence] == [2, 2]


def test_tok07_declared_and_not_added(tmp_path: Path) -> None:
    """DeepSeek-V3: `add_bos_token` is declared, and the file's post-processor adds none."""
    core = byte_level(front=["<|im_start|>"])
    assert found(ran(TOKENIZER, save(tmp_path, core, add_bos_token=True)), "TOK07").severity is Severity.WARN


def test_tok07_two(tmp_path: Path) -> None:
    finding = found(ran(TOKENIZER, save(tmp_path, byte_level(front=["<s>", "<s>"]))), "TOK07")
    assert finding.severity is Severity.WARN
    assert finding.evidence[0].observed == "256, 256, 39, 68, 75, 75, 78"


def test_tok07_exactly_one(tmp_path: Path) -> None:
    finding = found(ran(TOKENIZER, save(tmp_path)), "TOK07")
    assert finding.severity is Severity.OK
    assert "one BOS" in finding.claim


def test_tok08_an_added_word_inside_it(tmp_path: Path) -> None:
    """Added tokens that are not normalized are cut out first, also out of the name of a special one that is."""
    special = AddedToken("<|tool|>", normalized=True, special=True)
    core = byte_level([*SPECIALS, special], added=[AddedToken("tool", normalized=False)], front=["<s>"])
    finding = found(ran(TOKENIZER, save(tmp_path, core, config={"vocab_size": 262})), "TOK08")
    assert finding.severity is Severity.BLOCK
    assert "1 of 5 declared special tokens" in finding.claim
    assert "<|tool|>" in finding.evidence[0].source


def test_tok08_whole(tmp_path: Path) -> None:
    assert found(ran(TOKENIZER, save(tmp_path)), "TOK08").evidence[0].observed == len(SPECIALS)


def test_tok09_unknown_signs(tmp_path: Path) -> None:
    folder = save(
        tmp_path, unigram(["<unk>", "</s>"], unk="<unk>"), unk_token="<unk>", eos_token="</s>", bos_token=None
    )
    finding = found(ran(TOKENIZER, folder), "TOK09")
    assert finding.severity is Severity.WARN
    assert "Chinese" in finding.claim


def test_tok09_everything_comes_back(tmp_path: Path) -> None:
    finding = found(ran(TOKENIZER, save(tmp_path)), "TOK09")
    assert (finding.severity, finding.evidence[0].observed) == (Severity.OK, len(TEXTS))


def test_tok10_one_token_for_all_by_design(tmp_path: Path) -> None:
    """GPT-2, granite: one end-of-text token plays every role, and the config says so too."""
    core, end = byte_level(["<|im_end|>"]), {"eos_token_id": 256, "bos_token_id": 256}
    roles = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<|im_end|>")
    run = ran(TOKENIZER, save(tmp_path, core, config={**end, "vocab_size": 257}, generation=end, **roles))
    assert found(run, "TOK10").severity is Severity.NOTE
    assert "bos, eos, unk, pad share one token" in found(run, "TOK10").claim


def test_tok10_the_config_has_two(tmp_path: Path) -> None:
    finding = found(ran(TOKENIZER, save(tmp_path, bos_token="<|im_end|>")), "TOK10")
    assert finding.severity is Severity.WARN


def test_tok10_unk_is_bos(tmp_path: Path) -> None:
    assert found(ran(TOKENIZER, save(tmp_path, unk_token="<s>")), "TOK10").severity is Severity.WARN


def test_tok10_text_becomes_a_stop(tmp_path: Path) -> None:
    """Unknown text maps to unk, and unk is EOS: ordinary text ends generation."""
    end = {"eos_token_id": 0}
    folder = save(tmp_path, unigram(), unk_token="</s>", eos_token="</s>", bos_token=None, config=end, generation=end)
    finding = found(ran(TOKENIZER, folder), "TOK10")
    assert finding.severity is Severity.WARN
    assert "ordinary text reaches it" in finding.claim


def test_tok10_two_strings_one_id(tmp_path: Path) -> None:
    path = save(tmp_path) / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["Zürich"] = content["model"]["vocab"]["a"]
    path.write_text(json.dumps(content))
    finding = found(ran(TOKENIZER, tmp_path), "TOK10")
    assert finding.severity is Severity.WARN
    assert "Zürich and a" in finding.claim
    trip = found(ran(TOKENIZER, tmp_path), "TOK09")
    texts = sum("a" in text for _, text in TEXTS)
    assert f"{texts} of {len(TEXTS)} texts do not come back" in trip.claim
    assert f"({texts} of them at best by chance: an id in them has two strings)" in trip.claim
    assert trip.evidence[0].observed == f"Zürich/a ({content['model']['vocab']['a']}): either string"


def test_of_two_strings_of_an_id_the_first_in_order_is_told() -> None:
    """`get_vocab` of one and the same file lists them in another order in another process."""
    for listed in ({"b": 1, "a": 1, "c": 0}, {"a": 1, "c": 0, "b": 1}):
        subject = Vocabulary(None, SimpleNamespace(get_vocab=lambda listed=listed: listed))
        assert (subject.strings, subject.doubled) == ({0: "c", 1: "a"}, {1: ["a", "b"]})


def test_tok10_each_its_own(tmp_path: Path) -> None:
    assert found(ran(TOKENIZER, save(tmp_path)), "TOK10").severity is Severity.OK


def test_wgt09_rows_past_the_last_token(tmp_path: Path) -> None:
    run = ran(TOKENIZER, save(tmp_path, config={"vocab_size": 320}))
    assert found(run, "WGT09").severity is Severity.NOTE
    assert "320 rows for 260 tokens: 60 padding rows" in found(run, "WGT09").claim
    assert facts(run)["padding_rows"] == 60


def test_wgt09_no_padding(tmp_path: Path) -> None:
    assert seen(ran(TOKENIZER, save(tmp_path)), "WGT09") == ["ok"]


def test_tok01_is_not_said_of_a_tokenizer_that_needs_code(tmp_path: Path) -> None:
    code = {"auto_map": {"AutoTokenizer": ["code.Own", None]}, "tokenizer_class": "Own"}
    run = run_one(TOKENIZER, bench(save(tmp_path, **code)))
    assert isinstance(run, Skipped)
    assert run.findings == ()
    assert "--trust-remote-code" in run.reason
