"""Faults of chat templates: TPL."""

from __future__ import annotations

from collections.abc import Callable

from tests.planted.cases import Change, Folder, plants
from tests.tokenizer_factory import CHATML

_LOOP = "{% for m in messages %}"
_BOMB = "{{ 'ab' * 10**10 }}"


def edited(old: str, new: str) -> Change:
    """CHATML with a part replaced."""
    assert old in CHATML
    return lambda m: m.put("chat_template.jinja", CHATML.replace(old, new))


def before(words: str) -> Change:
    """Something put before all else."""
    return lambda m: m.template(lambda text: words + text)


def _no_template(m: Folder) -> None:
    m.remove("chat_template.jinja")


def _fixed(words: str) -> Callable[[Folder], None]:
    return lambda m: m.put("chat_template.jinja", words)


TEMPLATE = (
    *plants(
        "mistral",
        (
            ("TPL01", "the template was not uploaded", _no_template, "note"),
            ("TPL02", "an endfor is missing", edited("{% endfor %}", "")),
            ("TPL02", "a filter of another library", edited("{{ m.content }}", "{{ m.content | strip_html }}")),
            ("TPL02", "a function that transformers does not offer", before("{{ format_tools(tools) }}")),
            (
                "TPL02",
                "roles are named human and gpt",
                edited(
                    _LOOP,
                    _LOOP + "{% if m.role not in ('human', 'gpt') %}{{ raise_exception('unknown role') }}{% endif %}",
                ),
            ),
            (
                "TPL02",
                "turns are read by keys of another library: from and value",
                edited("{{ m.role }}\n{{ m.content }}", "{{ m['from'] + '\n' + m['value'] }}"),
            ),
            ("TPL02", "only the last turn is rendered", edited(_LOOP, "{% for m in messages[-1:] %}")),
            ("TPL02", "the user's turns are left out", edited(_LOOP, "{% for m in messages if m.role != 'user' %}")),
            ("TPL02", "turns come last to first", edited(_LOOP, "{% for m in messages | reverse %}")),
            (
                "TPL02",
                "content is a list of parts, as for images",
                edited("{{ m.content }}", "{% for part in m.content %}{{ part.text }}{% endfor %}"),
            ),
            ("TPL02", "the template is empty but for a comment", _fixed("{# to be done #}")),
            ("TPL02", "the template writes the prompt of one example", _fixed("<s>[INST] Hello [/INST]")),
            (
                "TPL03",
                "a system turn is refused",
                edited(
                    _LOOP,
                    _LOOP + "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}",
                ),
                "note",
            ),
            (
                "TPL04",
                "the system turn is left out",
                edited(_LOOP, "{% for m in messages if m.role != 'system' %}"),
                "warn",
            ),
            (
                "TPL05",
                "the template itself writes two BOS",
                edited("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}"),
                "warn",
            ),
            (
                "TPL07",
                "the user's turn is shortened once it is answered",
                edited(
                    "{{ m.content }}",
                    "{% if not loop.last and m.role == 'user' %}{{ m.content[:40] + ' ' + m.content[:5] }}"
                    "{% else %}{{ m.content }}{% endif %}",
                ),
                "warn",
            ),
            ("TPL07", "the number of turns stands in front", before("{{ messages | length }} turns\n"), "warn"),
            (
                "TPL07",
                "an empty thought stands before the last answer alone, as Qwen3 has it",
                edited(
                    "{{ m.content }}",
                    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}",
                ),
                "note",
            ),
            ("TPL08", "a turn is closed with the pad token", edited("<|im_end|>", "<pad>"), "warn"),
            ("TPL08", "nothing closes a turn", edited("<|im_end|>", ""), "warn"),
            ("TPL08", "a turn is closed with a word that is no token", edited("<|im_end|>", "<|end_of_turn|>"), "warn"),
            (
                "TPL09",
                "a loop of 10^12",
                before("{% for i in range(10**6) %}{% for j in range(10**6) %}{% endfor %}{% endfor %}"),
            ),
            ("TPL09", "20 GB of text", before(_BOMB)),
            (
                "TPL09",
                "a macro that calls itself without end",
                before("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}"),
            ),
            (
                "TPL09",
                "a way through attributes to Python's classes",
                before("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
            ),
            (
                "TPL09",
                "a format string that reaches attributes",
                before("{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}"),
            ),
            ("TPL09", "40 MB of blanks", before("{{ ' ' * 40000000 }}")),
            ("TPL10", "the date stands in the prompt", before("{{ strftime_now('%d %B %Y') }}\n"), "note"),
        ),
    ),
    *plants(
        "llama",
        (
            (
                "TPL08",
                "the tokenizer's and generation's end are not the template's",
                lambda m: (m.edit("generation_config.json", eos_token_id=1020), m.config(eos_token_id=1020)),
                "warn",
            ),
            (
                "TPL02",
                "the template in tokenizer_config.json lost its last line",
                lambda m: m.template(lambda text: text[: len(text) * 2 // 3]),
            ),
        ),
    ),
)
