"""The rehearsal of a replay (``--dry-run``): what would be sent where, with no sink opened and nothing marked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from connector.change import Change
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.protocol import DeadLetters
from connector.deadletter.reopen import CodecOf, reopen
from connector.deadletter.replay import ROUTE_GONE, ReplayOptions
from connector.deadletter.selection import DECODE, Held, pick
from connector.pipeline import RoutePlan

SEND = "send"


class Rehearsed(msgspec.Struct, frozen=True):
    """One letter on one route, and what would be done with it."""

    letter: DeadLetter
    route: str
    key: str | None
    event_name: str
    what: str
    """``send``, ``filtered``, ``empty``, ``held``, or the code for which it would stay dead."""


async def rehearse(
    options: ReplayOptions, *, plans: Sequence[RoutePlan], destination: DeadLetters, codec_of: CodecOf
) -> AsyncIterator[Rehearsed]:
    """What a replay with these options would do, as far as that is known before a sink has answered.

    Raises DeadLetterError where letters cannot be read.
    """
    routes = {plan.name: plan for plan in plans}
    seen: set[str] = set()
    limit = options.selection.limit
    while limit is None or len(seen) < limit:
        room = options.letters_max if limit is None else min(options.letters_max, limit - len(seen))
        picked = await pick(
            destination, options.selection, leave_out=seen, letters_max=room, bytes_max=options.bytes_max
        )
        if not picked.letters:
            return
        for item in reopen(picked.letters, codec_of):
            letter = item.letter
            seen.add(letter.id)
            names = tuple(routes) if letter.route == DECODE else (letter.route,)
            reason = item.reason if set(names) <= routes.keys() else ROUTE_GONE
            if reason is not None:
                yield Rehearsed(letter, letter.route, letter.key, letter.event_name, reason.code)
            elif not item.changes:
                yield Rehearsed(letter, letter.route, letter.key, letter.event_name, "empty")
            else:
                for name in names:
                    for change in item.changes:
                        yield _judge(letter, change, routes[name], picked.held)


def _judge(letter: DeadLetter, change: Change, plan: RoutePlan, held: Held) -> Rehearsed:
    event_name, what = change.event_name, SEND
    if plan.sieve is not None:
        sifted = plan.sieve([change])
        if sifted.filtered:
            what = "filtered"
        elif sifted.refused:
            what = sifted.refused[0].code
        else:
            event_name = sifted.taken[0].event_name
    if what == SEND and held.get(plan.name, {}).get(change.key, change.version) < change.version:
        what = "held"
    return Rehearsed(letter, plan.name, change.key, event_name.value, what)
