"""How values become words: bytes, counts, tokens, and text from strangers made harmless to read."""

from __future__ import annotations

import re
import unicodedata

from wirecheck.schema import Scalar

ABSENT = "—"
"""Shown where no probe established a value."""

_NO_CHARACTER = 0xFFFE
"""The last two code points of every plane have these bits, and are no characters."""
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def visible(text: str) -> str:
    """The text with every control, bidirectional and invisible character spelled out, on one line."""
    if text.isascii() and text.isprintable():  # the most of what is told: nothing in it is looked at twice
        return text
    return "".join(f"\\u{ord(char):04x}" if _is_hidden(char) and char != "\n" else char for char in text).replace(
        "\n", "⏎"
    )


_FILLERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0000-\U000e0fff]"
)
"""Letters and marks that show nothing: Unicode's Default_Ignorable_Code_Point outside of the categories, and an empty
braille cell. A text can be hidden in a run of them.
"""


def _is_hidden(char: str) -> bool:
    """Control, format, surrogate, private, line separators, fillers, and the code points that are no characters."""
    if char.isascii():
        return not char.isprintable()
    unseen = unicodedata.category(char) in _HIDDEN_CATEGORIES or _FILLERS.match(char) is not None
    return unseen or ord(char) & _NO_CHARACTER == _NO_CHARACTER


MARK = re.compile("\ue000([a-z0-9-]+)\ue001")
"""What stands in a report for a piece of trusted HTML: a key between two private characters."""


def mark(key: str) -> str:
    """The mark of a piece. No text from a stranger can hold one: `visible` spells private characters out."""
    made = f"\ue000{key}\ue001"
    if MARK.fullmatch(made) is None:
        raise ValueError(f"{key!r} is no key of a piece: small letters, digits and - only")
    return made


_BEGINS_A_COMMAND = re.compile(r"((?:^|[\r\n])(?:\s|\x1b\[[\d;]*m)*):(?=:)")


def no_command(text: str) -> str:
    """Text of any lines with nothing in it that a runner of GitHub Actions takes for a command; JSON keeps its meaning.

    It takes a line that begins with `::`, whatever blanks stand before, and `##[` anywhere in a line.
    """
    return _BEGINS_A_COMMAND.sub(r"\1\\u003a", text).replace("##[", "\\u0023#[")


def human_bytes(count: int) -> str:
    """Both units that people mean: `16.06 GB (14.96 GiB)`; below a MB, plain bytes."""
    if abs(count) < 10**6:
        return f"{count:,} B"
    if abs(count) < 10**9:
        return f"{count / 10**6:.1f} MB ({count / 2**20:.1f} MiB)"
    return f"{count / 10**9:.2f} GB ({count / 2**30:.2f} GiB)"


def human(value: Scalar) -> str:
    """A scalar as a reader expects it: grouped digits, yes or no, `—` for nothing."""
    match value:
        case None:
            return ABSENT
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case str():
            return visible(value)


def plural(count: int, noun: str) -> str:
    """`1 probe`, `2 probes`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


# --- text in markdown --------------------------------------------------------------------------------------------

NOTHING = "<!-- -->"
"""Shows nothing, and parts what GitHub would join to a mention, a reference, an emoji or an address of e-mail.

These are found in the rendered text, where neither a backslash nor an entity is left to be seen. It never stands where
a line may begin, for there it would begin a block of HTML.
"""
_PUNCTUATION = re.compile(r"[\\`*{}\[\]<>|~!]|&(?=[#A-Za-z])|:(?=//)|(?<=[Ww]{3})\.|#")
"""What markdown, or GitHub's search for links, takes for more than itself."""
_UNDERSCORES = re.compile(r"(?<![^\W_])(?<!_)_+|_+(?![^\W_]|_)")
"""Runs that may open or close emphasis; one between letters or digits stands for itself."""
_JOINED = re.compile(
    r"(?<!\w)@(?=\w)|@(?=[\w@\\-]+\.)|#(?=\d)|\b[Gg][Hh]-(?=\d)|:(?=(?:(?!\d+:)[a-z0-9_+-]+|100|1234):)|&#36;"
)
"""@name, joe@example.org, #1, GH-1, :smile: and what is left of a dollar, which begins a formula."""
_BEGINS_A_BLOCK = re.compile(r"^(?:-(?=[\s-]|$)|\+(?=\s|$)|=(?=[=\s]*$)|\d+[.)](?=\s|$))")


def markdown_text(text: str) -> str:
    """Plain text anywhere in a markdown paragraph, list, heading or table cell: shown as it is, whatever it holds."""
    shown = visible(text)
    inside = shown.strip(" ")
    before = len(shown) - len(shown.lstrip(" "))
    escaped = _PUNCTUATION.sub(r"\\\g<0>", inside)
    escaped = _UNDERSCORES.sub(lambda run: "\\_" * len(run[0]), escaped).replace("$", "&#36;")
    escaped = _JOINED.sub(lambda part: part[0] + NOTHING, escaped)
    if not before:
        escaped = _BEGINS_A_BLOCK.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", escaped)
    return f"{_SPACE * before}{escaped}{_SPACE * (len(shown) - len(inside) - before)}"


_SPACE = "&#32;"
"""A blank at either end, which would be cut off, or make a line of code, or break a line."""


def markdown_code(text: str) -> str:
    """A code span for a table cell: pipes escaped, as nowhere else they may be; see `markdown_span`."""
    return markdown_span(text).replace("|", "\\|")


def markdown_span(text: str) -> str:
    """A code span that holds any text, outside of tables: the fence is longer than what is inside."""
    inside = visible(text)
    if not inside.strip(" "):
        inside = f"{inside}␠" if inside else "␀"
    fence = "`" * (_longest_run(inside) + 1)
    pad = " " if inside.startswith("`") or inside.endswith("`") or (inside[0] == inside[-1] == " ") else ""
    return f"{fence}{pad}{inside}{pad}{fence}"


def markdown_prose(text: str) -> str:
    """Our own words, such as a remedy: what stands between backticks is a code span, the rest as plain text."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return markdown_text(text)
    return "".join(
        (markdown_span(part) if part else "") if n % 2 else markdown_text(part) for n, part in enumerate(parts)
    )


def markdown_block(text: str, language: str) -> str:
    """A fenced block of lines that no line of it ends."""
    lines = "\n".join(map(visible, text.split("\n")))
    fence = "`" * max(3, _longest_run(lines) + 1)
    return f"{fence}{language}\n{lines}\n{fence}"


def _longest_run(text: str) -> int:
    """Of backticks."""
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
