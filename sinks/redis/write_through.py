"""Write-through: each item is a Redis hash under one key, and an older version never wins.

    field ``d``   the item as a JSON document; absent once the item is removed
    field ``v``   its version, 19 digits with leading zeros

A reader asks ``HGET key d`` and gets the document, or nothing where the item is not there (removed, expired, unknown).
Value and version are one key, so that they share a slot, a lifetime and an eviction.

A reader that fills the cache itself (look-aside) must not put back what a change has meanwhile made untrue. It reads
``HGET key v`` *before* it reads the database, and fills with the script ``FILL`` below, which writes only while the
version is still the one that it saw. A removed item's version stays for ``tombstone_ttl``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from redis.crc import key_slot
from redis.exceptions import NoScriptError

from connector.change import Change
from connector.documents import encode_document
from connector.errors import ConfigError, DecodeError, DocumentError, TemplateError
from connector.sink import APPLIED, STALE, Outcome, Rejected
from connector.templates import Places, compile_template, places
from sinks.redis.config import WriteConfig
from sinks.redis.server import Command, Server

PLACES_MAX = 500
"""Places in one script call: it blocks the server for about 1 ms."""
SCRIPT_BYTES_MAX = 4 * 1024 * 1024

# ARGV: ttl and tombstone ttl in milliseconds, then version and document of each key; no document is a removal.
# Versions are compared as text: Lua's numbers are doubles, to which 2^53 and 2^53 + 1 are the same.
# One byte a key is answered, because a list of answers costs the client more than all the rest.
WRITE = b"""
local answers = {}
for n, key in ipairs(KEYS) do
  local version, document = ARGV[n * 2 + 1], ARGV[n * 2 + 2]
  local held = redis.pcall('HGET', key, 'v')
  if type(held) == 'table' then
    if not string.find(held.err, 'WRONGTYPE', 1, true) then return held end
    answers[n] = 'w'
  elseif held and held > version then
    answers[n] = 's'
  else
    answers[n] = 'a'
    if document == '' then
      redis.call('HSET', key, 'v', version)
      redis.call('HDEL', key, 'd')
      redis.call('PEXPIRE', key, ARGV[2])
    else
      redis.call('HSET', key, 'v', version, 'd', document)
      if ARGV[1] ~= '0' then
        redis.call('PEXPIRE', key, ARGV[1])
      elseif held then
        redis.call('PERSIST', key)
      end
    end
  end
end
return table.concat(answers)
"""
_WRITE_SHA = hashlib.sha1(WRITE, usedforsecurity=False).hexdigest().encode()

FILL = b"""
-- For readers. KEYS[1]: the key. ARGV: the version seen before the database was read ('' for none), the document,
-- and its lifetime in milliseconds. Answers 1 when it was written, 0 when a change came first.
local held = redis.call('HGET', KEYS[1], 'v')
if (held or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'v', held or '0000000000000000000', 'd', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

_APPLIED, _STALE, _WRONG_TYPE = b"asw"


class Entry(NamedTuple):
    """What is to be written at one place on behalf of one change."""

    key: bytes
    version: bytes
    document: bytes
    """Empty for a removal."""
    at: int
    """The change's place in the batch."""
    decides: bool
    """Whether this place's answer is the change's outcome (an old place that is cleared beside it is not)."""


class WriteThrough:
    """Keeps items under their keys."""

    def __init__(self, server: Server, config: WriteConfig, *, key_bytes_max: int) -> None:
        self._server = server
        self._template = compile_template(config.key, result_bytes_max=key_bytes_max)
        self._numbers = config.numbers
        self._lifetimes = (
            b"%d" % round((config.ttl or 0) * 1000),
            b"%d" % round(config.tombstone_ttl * 1000),
        )
        self.place_attributes = self._template.attributes

    async def open(self) -> None:
        """Try the script on no key at all: who may not run it is told now."""
        (answer,) = await self._server.run([self._command("EVAL", WRITE, [])])
        if isinstance(answer, Exception):
            raise ConfigError(f"the server cannot run the script that guards versions: {answer}") from answer

    def describe(self) -> str:
        """For people."""
        ttl, tombstone_ttl = (int(ms) / 1000 for ms in self._lifetimes)
        kept = f"for {ttl:g} s" if ttl else "for ever"
        return f"keeps items in hashes at {self._template.text}, {kept}, removed ones' versions for {tombstone_ttl:g} s"

    async def write(self, batch: Sequence[Change]) -> list[Outcome]:
        """See ``Sink.write``."""
        entries, outcomes = self.entries_of(batch)
        calls = list(self._calls(entries))
        if not calls:
            return outcomes
        commands = [self._command("EVALSHA", _WRITE_SHA, call) for call in calls]
        answers = await self._server.run(commands)
        unknown = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            # A server that was restarted or promoted has forgotten the script; EVAL teaches it again.
            again = await self._server.run([self._command("EVAL", WRITE, calls[n]) for n in unknown])
            for n, answer in zip(unknown, again, strict=True):
                answers[n] = answer
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, Exception):
                raise answer
            for entry, letter in zip(call, answer, strict=True):
                if letter == _WRONG_TYPE:
                    outcomes[entry.at] = Rejected("wrong_type", "the key holds something that is not a hash")
                elif letter == _STALE and entry.decides and outcomes[entry.at] is APPLIED:
                    outcomes[entry.at] = STALE
        return outcomes

    def entries_of(self, batch: Sequence[Change]) -> tuple[list[Entry], list[Outcome]]:
        """What to write where, in the batch's order, and the outcome of each change if all of it is applied."""
        entries: list[Entry] = []
        outcomes: list[Outcome] = [APPLIED] * len(batch)
        for at, change in enumerate(batch):
            try:
                place = places(self._template, change)
                document = self._document(change, place)
            except (TemplateError, DocumentError, DecodeError) as error:
                outcomes[at] = Rejected(error.code, error.message)
                continue
            except UnicodeEncodeError:
                outcomes[at] = Rejected("not_unicode", "the item holds half a surrogate pair")
                continue
            version = b"%019d" % change.version
            if place.old is not None and place.old != place.new:
                entries.append(Entry(place.old.encode(), version, b"", at, place.new is None))
            if place.new is not None:
                entries.append(Entry(place.new.encode(), version, document, at, True))
        return entries, outcomes

    def _document(self, change: Change, place: Places) -> bytes:
        if place.new is None:
            return b""
        document = change.new_document(self._numbers)
        if document is None:
            raise TemplateError("image_missing", "the record carries no new image")
        return encode_document(document)

    def _calls(self, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """Entries in calls of bounded size, in order; of one slot each in a cluster."""
        groups: dict[int, list[Entry]] = {}
        if self._server.cluster:
            for entry in entries:
                groups.setdefault(key_slot(entry.key), []).append(entry)
        elif entries:
            groups[0] = list(entries)
        for group in groups.values():
            call: list[Entry] = []
            size = 0
            for entry in group:
                if call and (len(call) == PLACES_MAX or size + len(entry.document) > SCRIPT_BYTES_MAX):
                    yield call
                    call, size = [], 0
                call.append(entry)
                size += len(entry.document)
            if call:
                yield call

    def _command(self, verb: str, script: bytes, call: Sequence[Entry]) -> Command:
        arguments: list[Any] = [verb, script, len(call)]
        arguments.extend(entry.key for entry in call)
        arguments.extend(self._lifetimes)
        for entry in call:
            arguments.append(entry.version)
            arguments.append(entry.document)
        return Command(call[0].key if call else None, arguments)
