"""Text from outside, made safe to show: no control, ANSI, bidi or invisible characters, no lone surrogates."""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 and C1 controls: line breaks, ANSI's escape
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # bidi, invisible, line separators
    "\ud800-\udfff"  # surrogates, which no encoder takes
    "\U000e0000-\U000e007f]"  # tags: invisible text
)


def escape_text(text: str, characters_max: int | None = None) -> str:
    """The text on one line, with what could deceive a reader or a terminal written as ``\\uXXXX``.

    Longer texts are cut, and say how much is missing.
    """
    if characters_max is not None and len(text) > characters_max:
        text = f"{text[:characters_max]}… ({len(text) - characters_max} more characters)"
    return _UNSAFE.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
