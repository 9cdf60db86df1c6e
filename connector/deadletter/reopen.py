"""Dead letters back to changes: decoded by the codec that each names, with the version that each change had."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec

from connector import plugins
from connector.change import Change, Record
from connector.codecs.protocol import Codec
from connector.deadletter.envelope import DeadLetter, ErrorKind
from connector.deadletter.selection import DECODE
from connector.delivery.versions import LOGICAL_BITS, stamp_by_time
from connector.errors import ConfigError

CodecOf = Callable[[str], Codec]
"""The codec of a format. Raises ConfigError where it is not installed or cannot be used."""


class Reason(msgspec.Struct, frozen=True):
    """Why a letter stays dead, in a dead letter's own terms."""

    kind: ErrorKind
    code: str
    message: str = ""


class Reopened(msgspec.Struct):
    """A letter with its changes, or with the reason for which it gives none.

    No change and no reason: the record rightly carries none (a mended codec says so).
    """

    letter: DeadLetter
    changes: Sequence[Change] = ()
    reason: Reason | None = None


def installed_codecs() -> CodecOf:
    """The installed codecs by format, each made once."""
    made: dict[str, Codec] = {}

    def codec_of(name: str) -> Codec:
        if name not in made:
            plugin = plugins.codecs().get(name)
            if plugin is None:
                raise ConfigError(f"the format {name!r} is not installed any more")
            made[name] = plugin.load()()
        return made[name]

    return codec_of


def reopen(letters: Sequence[DeadLetter], codec_of: CodecOf) -> list[Reopened]:
    """Decode letters, one call of a codec for all of a shard; the answer is in the letters' order."""
    groups: dict[tuple[str, str], list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault((letter.format, letter.shard), []).append(letter)
    reopened: dict[str, Reopened] = {}
    unordered: set[str] = set()
    for (name, shard), group in groups.items():
        try:
            codec = codec_of(name)
        except ConfigError as error:
            reason = Reason(ErrorKind.DECODE, "format_gone", error.message)
            reopened |= {letter.id: Reopened(letter, reason=reason) for letter in group}
            continue
        if not getattr(codec, "ordered", True):
            unordered.add(name)
        # A record of its own for each letter: changes are told apart by it, though letters may share a record.
        records = [msgspec.structs.replace(letter.record) for letter in group]
        decoded = codec.decode(shard, records)
        changes: dict[int, list[Change]] = {}
        for change in decoded.changes:
            changes.setdefault(id(change.record), []).append(change)
        refused = {id(item.record): item.error for item in decoded.undecodable}
        for letter, record in zip(group, records, strict=True):
            if (refusal := refused.get(id(record))) is not None:
                opened = Reopened(letter, reason=Reason(ErrorKind.DECODE, refusal.code, refusal.message))
            else:
                opened = _choose(letter, record, changes.get(id(record), []))
            reopened[letter.id] = opened
    result = [reopened[letter.id] for letter in letters]
    _stamp_first_decoded(result, unordered)
    return result


def _choose(letter: DeadLetter, record: Record, changes: list[Change]) -> Reopened:
    if letter.route == DECODE:
        return Reopened(letter, changes)
    for change in changes:
        if change.index == letter.index:
            change.version = letter.version
            return Reopened(letter, [change])
    message = f"the record at {letter.shard}:{record.position} holds no change {letter.index} any more"
    return Reopened(letter, reason=Reason(ErrorKind.DECODE, "change_gone", message))


def _stamp_first_decoded(reopened: Sequence[Reopened], unordered: Collection[str]) -> None:
    """Versions for changes that never had one: their time, and for one key always growing (but for unordered formats,
    where the time alone decides).

    The shard's clock is of no use: it has gone on without them, and they are older than what it stamps. Growing only by
    key keeps one record with a time in the future from lifting other keys above their newer changes.
    """
    undecoded = [item for item in reopened if item.letter.route == DECODE]
    undecoded.sort(key=lambda item: (item.letter.shard, item.letter.position, item.letter.record.part))
    last: dict[str, int] = {}
    for item in undecoded:
        if item.letter.format in unordered:
            stamp_by_time(item.changes, 0, None)
            continue
        for change in item.changes:
            version = max(change.timestamp_ms << LOGICAL_BITS, last.get(change.key, -1) + 1)
            change.version = last[change.key] = version
