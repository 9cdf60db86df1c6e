"""Wildcards: ``*`` stands for any text, also none; ``\\*`` and ``\\\\`` are the characters; ``**`` is refused.

Matching goes through the text once, from left to right, taking each piece between two stars at its first place after
the piece before it. That is always right (an earlier place leaves more for the pieces that follow), so nothing is ever
tried twice, and the work is linear in the text.
"""

from __future__ import annotations

from collections.abc import Callable

PIECES_MAX = 64


def parse_wildcard(text: str) -> tuple[str, ...]:
    """The pieces between the stars, unescaped; a wildcard of one piece has no star.

    Raises ValueError that says what is wrong and at which character (from 1).
    """
    pieces: list[str] = []
    piece: list[str] = []
    at = 0
    while at < len(text):
        character = text[at]
        following = text[at + 1 : at + 2]
        if character == "*":
            if following == "*":
                raise ValueError(f"'**' at character {at + 1}: one '*' stands for any text already")
            pieces.append("".join(piece))
            piece = []
        elif character == "\\":
            if not following or following not in "*\\":
                raise ValueError(f"the backslash at character {at + 1} must stand before '*' or another backslash")
            piece.append(following)
            at += 1
        else:
            piece.append(character)
        at += 1
    pieces.append("".join(piece))
    if len(pieces) > PIECES_MAX:
        raise ValueError(f"more than {PIECES_MAX - 1} stars")
    return tuple(pieces)


def compile_wildcard(pieces: tuple[str, ...]) -> Callable[[str], bool]:
    """A predicate on texts for the pieces of ``parse_wildcard``."""
    if len(pieces) == 1:
        whole = pieces[0]
        return lambda text: text == whole
    first, *middle, last = pieces

    def matches(text: str) -> bool:
        at = len(first)
        end = len(text) - len(last)
        if end < at or not text.startswith(first) or not text.endswith(last):
            return False
        for piece in middle:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    return matches
