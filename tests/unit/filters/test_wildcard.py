"""Wildcards go through a text once."""

from __future__ import annotations

import fnmatch

from hypothesis import given
from hypothesis import strategies as st

from connector.filters.wildcard import compile_wildcard, parse_wildcard


class WatchedText(str):
    """A text that notes from where it is searched."""

    def __new__(cls, text: str) -> WatchedText:
        watched = super().__new__(cls, text)
        watched.searched_from = []
        return watched

    searched_from: list[int]

    def find(self, *args: object) -> int:
        self.searched_from.append(int(args[1]))  # type: ignore[call-overload]
        return super().find(*args)  # type: ignore[arg-type]


def test_the_worst_wildcards_search_each_piece_once_and_never_go_back() -> None:
    matches = compile_wildcard(parse_wildcard("a*" * 30 + "b*c"))
    text = WatchedText("a" * 100_000 + "c")
    assert not matches(text)
    assert len(text.searched_from) <= 30
    assert text.searched_from == sorted(text.searched_from)


def test_overlapping_ends_are_not_counted_twice() -> None:
    matches = compile_wildcard(parse_wildcard("aa*aa"))
    assert not matches("aaa")
    assert matches("aaaa")


def test_a_piece_in_the_middle_does_not_reach_into_the_end() -> None:
    assert not compile_wildcard(parse_wildcard("*ab*b"))("ab")
    assert compile_wildcard(parse_wildcard("*ab*b"))("abb")


@given(st.lists(st.text("ab", max_size=2), min_size=1, max_size=5), st.text("ab", max_size=12))
def test_it_agrees_with_fnmatch(pieces: list[str], text: str) -> None:
    wildcard = pieces[0] + "".join("*" + piece for piece in pieces[1:] if piece)
    assert compile_wildcard(parse_wildcard(wildcard))(text) == fnmatch.fnmatchcase(text, wildcard)


@given(st.text("a*\\", max_size=8))
def test_an_escaped_text_matches_itself_alone(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("*", "\\*")
    assert parse_wildcard(escaped) == (text,)
    assert compile_wildcard(parse_wildcard(escaped))(text)
    assert not compile_wildcard(parse_wildcard(escaped))(text + "a")
