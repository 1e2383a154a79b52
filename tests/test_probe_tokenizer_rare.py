"""The tokenizer probe on rarer tokenizers: other files, shared roles, reserves, rows that several facts name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.gguf_bytes import BOOL, pairs, whole
from tests.tokenizer_factory import END, SPECIALS, bench, byte_level, found, ran, save, seen, unigram
from wirecheck.probe_run import run_one
from wirecheck.probes.tokenizer import TOKENIZER
from wirecheck.schema import Fact, Finding, Level, Ran, Severity, Skipped

NO_PAD = {"pad_token": None}
WITHOUT_ONE = "The tokenizer has no pad token, and none that could serve as one"


class StandIn:
    """A loaded tokenizer, but for what encoding with special tokens gives."""

    def __init__(self, tokenizer: Any, whole: list[int] | None = None) -> None:
        self.tokenizer, self.whole = tokenizer, whole

    def __call__(self, text: Any, *, add_special_tokens: bool = True, **options: Any) -> Any:
        if self.whole is not None and add_special_tokens:
            return {"input_ids": self.whole}
        return self.tokenizer(text, add_special_tokens=add_special_tokens, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def ran_with(folder: Path, tokenizer: Any) -> Ran:
    """The probe's run on a folder whose tokenizer was loaded from elsewhere."""
    subject = bench(folder)
    subject.tokenizer = tokenizer
    run = run_one(TOKENIZER, subject)
    assert isinstance(run, Ran), run
    return run


def sources(run: Ran) -> set[str]:
    """Where the facts that the files tell were read, without the commit."""
    return {fact.source.partition("@")[0] for fact in run.facts if fact.key not in ("adds_bos", "padding_rows")}


# --- files -----------------------------------------------------------------------------------------------------------


def test_tok01_lists_every_file_that_a_vocabulary_can_come_from(tmp_path: Path) -> None:
    folder = save(tmp_path)
    (folder / "tokenizer.json").unlink()
    there = ["merges.txt", "sentencepiece.bpe.model", "spiece.model", "tekken.json", "tiktoken.model", "vocab.json"]
    for name in [*there, "README.md"]:
        (folder / name).write_text("{}")
    observed = found(ran(TOKENIZER, folder), "TOK01").evidence[-1].observed
    assert observed == ", ".join(sorted([*there, "tokenizer_config.json"]))


def test_tok01_text_that_is_unknown_all_through(tmp_path: Path) -> None:
    core = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    run = ran(TOKENIZER, save(tmp_path, core, bos_token=None, eos_token=None, unk_token="<unk>", **NO_PAD))
    assert [finding.code for finding in run.findings] == ["TOK01"]
    assert found(run, "TOK01").severity is Severity.BLOCK
    assert found(run, "TOK01").evidence[0].observed == "0"


def test_facts_name_the_file_that_the_tokenizer_is_read_from(tmp_path: Path) -> None:
    folder = save(tmp_path)
    tokenizer = bench(folder).tokenizer
    (folder / "tokenizer.json").unlink()
    assert sources(ran_with(folder, tokenizer)) == {"tokenizer_config.json"}
    (folder / "tokenizer.model").write_bytes(b"")
    assert sources(ran_with(folder, tokenizer)) == {"tokenizer.model"}


def test_facts_of_a_gguf_file_name_it(tmp_path: Path) -> None:
    """It has no tokenizer_config.json either, and so nothing declares a BOS."""
    path = tmp_path / "m.gguf"
    path.write_bytes(whole(pairs(tokenizer__ggml__add_bos_token=(BOOL, False))))
    run = ran(TOKENIZER, path)
    assert sources(run) == {"m.gguf"}
    assert (seen(run, "TOK04"), seen(run, "TOK07")) == (["note"], ["ok"])


# --- ends and beginnings ---------------------------------------------------------------------------------------------


def test_tok03_shows_the_ids_of_both_configs(tmp_path: Path) -> None:
    finding = found(ran(TOKENIZER, save(tmp_path, generation={"eos_token_id": 256})), "TOK03")
    assert finding.evidence[-1].observed == f"256, {END}"


def test_tok04_names_no_id_that_is_none(tmp_path: Path) -> None:
    tokenizer = bench(save(tmp_path, byte_level(), bos_token=None)).tokenizer
    run = ran_with(save(tmp_path, byte_level(), bos_token=None, config={"bos_token_id": [256]}), tokenizer)
    assert found(run, "TOK04").claim.startswith("The tokenizer has no BOS token: the wire's anchor")


def test_tok07_nothing_in_front_although_it_is_declared(tmp_path: Path) -> None:
    run = ran(TOKENIZER, save(tmp_path, byte_level(), add_bos_token=True))
    assert seen(run, "TOK04") == ["ok"]
    claim = "Plain encoding puts no token in front although add_bos_token is declared, not <s> (256)."
    assert found(run, "TOK07").claim == claim


def test_tok07_something_in_front_where_there_is_no_bos(tmp_path: Path) -> None:
    run = ran(TOKENIZER, save(tmp_path, byte_level(front=["<|im_start|>"]), bos_token=None))
    assert found(run, "TOK07").claim == "Plain encoding puts <|im_start|> (257) in front, not nothing."


@pytest.mark.parametrize(("options", "wanted"), [({}, "nothing"), ({"add_bos_token": True}, "<s> (256)")])
def test_tok07_the_word_itself_comes_out_otherwise(tmp_path: Path, options: dict[str, Any], wanted: str) -> None:
    folder = save(tmp_path, byte_level(), **options)
    run = ran_with(folder, StandIn(bench(folder).tokenizer, [78, 75, 75, 68, 39]))
    why = " although add_bos_token is declared" if options else ""
    assert found(run, "TOK07").claim == f"Plain encoding puts other ids than the word alone{why}, not {wanted}."
    assert {fact.value for fact in run.facts if fact.key == "adds_bos"} == {False}


# --- reserves to pad with --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reserve", ["<|unused_0|>", "<extra_id_0>", "[CONTROL_1]"])
def test_tok05_knows_a_reserve_by_its_name(tmp_path: Path, reserve: str) -> None:
    core = byte_level([*SPECIALS[:3], "<q>", reserve], front=["<s>"])
    finding = found(ran(TOKENIZER, save(tmp_path, core, config={"vocab_size": 261}, **NO_PAD)), "TOK05")
    assert f"while {reserve} (260) is unused" in finding.claim


def test_tok05_a_reserve_that_has_a_role_is_none(tmp_path: Path) -> None:
    core = byte_level([*SPECIALS[:3], "<|reserved_0|>"], front=["<s>"])
    finding = found(ran(TOKENIZER, save(tmp_path, core, sep_token="<|reserved_0|>", **NO_PAD)), "TOK05")
    assert finding.claim.startswith(WITHOUT_ONE)


def test_tok05_an_unknown_token_that_nothing_uses_would_do(tmp_path: Path) -> None:
    core = byte_level([*SPECIALS[:3], "<q>"], front=["<s>"])
    finding = found(ran(TOKENIZER, save(tmp_path, core, unk_token="<q>", **NO_PAD)), "TOK05")
    assert (finding.severity, "while <q> (259) is unused" in finding.claim) == (Severity.NOTE, True)


@pytest.mark.parametrize(
    "options",
    [{"unk_token": "<s>"}, {"unk_token": "<q>", "config": {"vocab_size": 259}}, {"config": {"vocab_size": None}}],
    ids=["it has another role", "it has no row", "there is none, and no count of rows"],
)
def test_tok05_an_unknown_token_that_would_not_do(tmp_path: Path, options: dict[str, Any]) -> None:
    core = byte_level([*SPECIALS[:3], "<q>"], front=["<s>"])
    run = run_one(TOKENIZER, bench(save(tmp_path, core, **options, **NO_PAD)))
    assert isinstance(run, Ran | Skipped)
    assert found(run, "TOK05").claim.startswith(WITHOUT_ONE)


def test_tok05_an_unknown_token_that_text_uses_would_not_do(tmp_path: Path) -> None:
    core, roles = unigram(["<unk>", "</s>"], unk="<unk>"), {"unk_token": "<unk>", "eos_token": "</s>"}
    finding = found(
        ran(TOKENIZER, save(tmp_path, core, bos_token=None, config={"vocab_size": 31}, **roles, **NO_PAD)), "TOK05"
    )
    assert finding.claim.startswith(WITHOUT_ONE)


def test_tok06_counts_the_ends_of_the_rows_alone(tmp_path: Path) -> None:
    """What encoding with special tokens would append is no end of the two rows."""
    core = byte_level()
    known = [("<s>", 256), ("<|im_end|>", END)]
    core.post_processor = processors.TemplateProcessing(single=["<s>", "$A", "<|im_end|>"], special_tokens=known)
    finding = found(ran(TOKENIZER, save(tmp_path, core)), "TOK06")
    assert [one.observed for one in finding.evidence] == [2, 2]


# --- special tokens, round trips, shared roles -----------------------------------------------------------------------


def test_tok08_no_special_tokens_at_all(tmp_path: Path) -> None:
    run = ran(TOKENIZER, save(tmp_path, byte_level(()), bos_token=None, eos_token=None, **NO_PAD))
    assert found(run, "TOK08").claim == "Each of the 0 declared special tokens encodes to its one id."


def test_tok09_the_space_that_a_tokenizer_puts_in_front_can_be_told(tmp_path: Path) -> None:
    core = byte_level(front=["<s>"])
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert found(ran(TOKENIZER, save(tmp_path, core)), "TOK09").severity is Severity.OK


def test_tok09_is_not_of_what_a_clean_up_takes_away(tmp_path: Path) -> None:
    option = "clean_up_tokenization_spaces"
    folder = save(tmp_path, **{option: True, f"{option}_for_bpe_even_though_it_will_corrupt_output": True})
    tokenizer = bench(folder).tokenizer
    assert tokenizer.decode(tokenizer.encode("so .", add_special_tokens=False)) == "so."
    assert found(ran(TOKENIZER, folder), "TOK09").severity is Severity.OK


@pytest.mark.parametrize(
    ("options", "roles"),
    [
        ({"pad_token": "<s>"}, "bos, pad"),
        ({"unk_token": "<|im_end|>"}, "eos, unk"),
        ({"bos_token": "<|im_end|>", "config": {"bos_token_id": None}}, "bos, eos"),
        ({"bos_token": "<|im_end|>", "config": {"eos_token_id": None}}, "bos, eos"),
        ({"bos_token": "<|im_end|>", "config": {"bos_token_id": END}}, "bos, eos"),
    ],
)
def test_tok10_roles_that_makers_share(tmp_path: Path, options: dict[str, Any], roles: str) -> None:
    finding = found(ran(TOKENIZER, save(tmp_path, **options)), "TOK10")
    assert finding.severity is Severity.NOTE
    assert finding.claim.startswith(f"The roles {roles} share one token")


@pytest.mark.parametrize(
    ("options", "roles"),
    [
        ({"sep_token": "<s>", "cls_token": "<s>"}, "bos = sep = cls"),
        ({"mask_token": "<s>"}, "bos = mask"),
        ({"unk_token": "<|im_start|>", "mask_token": "<|im_start|>"}, "unk = mask"),
    ],
)
def test_tok10_roles_that_a_model_has_two_tokens_for(tmp_path: Path, options: dict[str, Any], roles: str) -> None:
    finding = found(ran(TOKENIZER, save(tmp_path, **options)), "TOK10")
    assert (finding.severity, finding.evidence[0].observed) == (Severity.WARN, roles)


def test_tok10_two_strings_do_not_hide_a_shared_role(tmp_path: Path) -> None:
    path = save(tmp_path, unk_token="<s>") / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["Zürich"] = content["model"]["vocab"]["a"]
    path.write_text(json.dumps(content))
    assert seen(ran(TOKENIZER, tmp_path), "TOK10") == ["warn", "warn"]


# --- rows ------------------------------------------------------------------------------------------------------------


def rows_of(run: Ran) -> tuple[Any, str, Level]:
    """How many rows the finding says there are, and where and how that was read."""
    last = found(run, "TOK02").evidence[-1]
    return last.observed, last.source.partition("@")[0], last.level


def fact(key: str, value: Any, source: str, level: Level = Level.INSPECTED, subject: str = "a") -> Fact:
    """What another probe may have established."""
    return Fact(key=key, subject=subject, value=value, level=level, source=source)


ROWS = fact("embedding_rows", 258, "model.safetensors")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ((fact("num_layers", 3, "x"),), (260, "config.json", Level.DECLARED)),
        ((fact("embedding_rows", 99, "x", subject="b"),), (260, "config.json", Level.DECLARED)),
        ((fact("vocab_size", 400, "x", Level.MEASURED), ROWS), (258, "model.safetensors", Level.INSPECTED)),
        ((fact("embedding_rows", 99, "x", Level.DECLARED), ROWS), (258, "model.safetensors", Level.INSPECTED)),
        ((fact("embedding_rows", 0, "x"), fact("vocab_size", 1, "y")), (1, "y", Level.INSPECTED)),
        ((fact("embedding_rows", "many", "x"), fact("vocab_size", -1, "y")), (260, "config.json", Level.DECLARED)),
    ],
)
def test_tok02_takes_the_rows_from_the_best_that_tells(tmp_path: Path, facts: Any, expected: Any) -> None:
    assert rows_of(ran(TOKENIZER, save(tmp_path), facts)) == expected


@pytest.mark.parametrize(("rows", "named"), [(255, "<pad> (259), and the"), (254, "<|im_end|> (258) and 1 more, and")])
def test_tok02_names_five_ids_and_counts_the_rest(tmp_path: Path, rows: int, named: str) -> None:
    finding: Finding = found(ran(TOKENIZER, save(tmp_path, config={"vocab_size": rows})), "TOK02")
    assert named in finding.claim
