"""A route's filter on a batch: ``when`` picks changes, then ``where`` says which items belong there."""

from __future__ import annotations

from collections.abc import Sequence

from connector.change import Change
from connector.delivery.lane import Refusal
from connector.delivery.route import Sieve, Sifted
from connector.errors import DecodeError
from connector.filters import ChangePredicate, ItemPredicate, Pattern, Where, compile_when, compile_where, decide
from connector.sink import Semantics


def make_sieve(when: Sequence[Pattern] | None, where: Sequence[Pattern] | None, semantics: Semantics) -> Sieve | None:
    """The filter of a route; None where it lets everything through."""
    picks = compile_when(when) if when else None
    belongs = compile_where(where) if where else None
    if picks is None and belongs is None:
        return None
    state = semantics is Semantics.STATE

    def sieve(changes: Sequence[Change]) -> Sifted:
        sifted = Sifted(changes) if picks is None else _pick(picks, changes)
        return sifted if belongs is None else _keep_what_belongs(belongs, sifted, state)

    return sieve


def _pick(picks: ChangePredicate, changes: Sequence[Change]) -> Sifted:
    if picks.event_names_only:
        names = picks.event_names
        picked = [change for change in changes if change.event_name in names]
        if len(picked) == len(changes):
            return Sifted(changes)
        return Sifted(picked, [change for change in changes if change.event_name not in names])
    taken: list[Change] = []
    filtered: list[Change] = []
    refused: list[Refusal] = []
    for change in changes:
        try:
            (taken if picks(change) else filtered).append(change)
        except DecodeError as error:  # an image is decoded here for the first time
            refused.append(Refusal(change, error.code, error.message))
    return Sifted(taken, filtered, refused)


def _keep_what_belongs(belongs: ItemPredicate, sifted: Sifted, state: bool) -> Sifted:
    taken: list[Change] = []
    filtered = list(sifted.filtered)
    refused = list(sifted.refused)
    for change in sifted.taken:
        try:
            decision = decide(belongs, change, state=state)
        except DecodeError as error:
            refused.append(Refusal(change, error.code, error.message))
            continue
        match decision:
            case Where.KEEP:
                taken.append(change)
            case Where.REMOVE:
                taken.append(change.as_removal())
            case Where.DROP:
                filtered.append(change)
            case Where.IMAGE_MISSING:
                message = "the filter (where) needs an image that the change does not carry"
                refused.append(Refusal(change, Where.IMAGE_MISSING.value, message))
    return Sifted(taken, filtered, refused)
