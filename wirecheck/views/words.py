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
    return "".join(f"\\u{ord(char):04x}" if _is_hidden(char) and char != "\n" else char for char in text).replace(
        "\n", "⏎"
    )


def _is_hidden(char: str) -> bool:
    """Control, format, surrogate, private, line separators, and the code points that are no characters."""
    return unicodedata.category(char) in _HIDDEN_CATEGORIES or ord(char) & _NO_CHARACTER == _NO_CHARACTER


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


def markdown_text(text: str) -> str:
    """Plain text for a markdown paragraph or table cell: shown as it is, whatever it holds."""
    escaped = re.sub(r"([\\`*{}\[\]<>#|~!])", r"\\\1", visible(text))
    escaped = _UNDERSCORES.sub(lambda run: "\\_" * len(run[0]), escaped)
    escaped = re.sub(r"(?<!\w)@", "&#64;", escaped)
    return re.sub(r"^(\s*)([-+]|\d+\.)(?=\s)", r"\1\\\2", escaped)


_UNDERSCORES = re.compile(r"(?<![^\W_])(?<!_)_+|_+(?![^\W_]|_)")
"""Runs that may open or close emphasis; one between letters or digits stands for itself."""


def markdown_code(text: str) -> str:
    """A code span that holds any text and never breaks a table: pipes escaped, the fence longer than what is inside."""
    inside = visible(text).replace("|", "\\|")
    if not inside.strip():
        inside = f"{inside}␠" if inside else "␀"
    longest = max((len(run) for run in re.findall(r"`+", inside)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if inside.startswith("`") or inside.endswith("`") else ""
    return f"{fence}{pad}{inside}{pad}{fence}"


def markdown_prose(text: str) -> str:
    """Our own words, such as a remedy: what stands between backticks is a code span, the rest as plain text."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return markdown_text(text)
    return "".join(
        (markdown_code(part) if part else "") if n % 2 else markdown_text(part) for n, part in enumerate(parts)
    )
