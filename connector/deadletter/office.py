"""The dead-letter office of a pipeline: makes letters durable, whatever it takes, and knows which keys are held."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from connector.clock import Clock
from connector.deadletter.envelope import DeadLetter
from connector.deadletter.protocol import DeadLetters
from connector.errors import DeadLetterError

WAIT_MAX_S = 30.0
LOOK_AGAIN_S = 1.0
LEARN_FAILURES_MAX = 12
"""How often in a row the held keys may fail to be read (about two to four minutes with the waits between)."""


class DeadLetterOffice:
    """Sits between delivery and a destination. A dead letter counts only when the destination acknowledged it."""

    def __init__(self, destination: DeadLetters, clock: Clock, chance: random.Random) -> None:
        self.destination = destination
        self.last_error = ""
        """Why letters cannot be written at present; empty while they can."""
        self._clock = clock
        self._chance = chance
        self._held: dict[str, dict[str, int]] = {}
        self._appended: dict[tuple[str, str], int] = {}
        self._turn = 0
        self._look_again_at = 0.0
        self._one_at_a_time = asyncio.Lock()

    async def open(self) -> None:
        """Open the destination. Raises ConfigError and DeadLetterError."""
        await self.destination.open()

    async def learn_held_keys(self) -> None:
        """Read which keys are held: needed whenever shards are assigned, since their last owner may have added some.

        A destination that is down is asked again for some minutes; then DeadLetterError, since without knowing the
        held keys nothing may be delivered.
        """
        failures = 0
        while True:
            try:
                await self._learn()
            except DeadLetterError as error:
                failures += 1
                if failures == LEARN_FAILURES_MAX:
                    raise
                await self._wait(error, failures)
            else:
                self.last_error = ""
                return

    async def _learn(self) -> None:
        self._turn += 1  # a release that began to look before this must not let go of what is learned here
        async for stored in self.destination.letters():
            letter = stored.letter
            if letter.holds_key and letter.key is not None:
                held = self.held(letter.route)
                held[letter.key] = min(letter.version, held.get(letter.key, letter.version))
                self._appended[letter.route, letter.key] = self._turn

    def held(self, route: str) -> dict[str, int]:
        """The held keys of a route, each with the version of the letter that holds it. Live: the route adds to it."""
        return self._held.setdefault(route, {})

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Return when the letters are durable; a destination that is down is tried for ever."""
        failures = 0
        async with self._one_at_a_time:
            self._turn += 1
            for letter in letters:
                if letter.holds_key and letter.key is not None:
                    self._appended[letter.route, letter.key] = self._turn
            while True:
                try:
                    await self.destination.append(letters)
                except DeadLetterError as error:
                    failures += 1
                    await self._wait(error, failures)
                else:
                    self.last_error = ""
                    return

    async def _wait(self, error: DeadLetterError, failures: int) -> None:
        self.last_error = str(error)
        wait_s = min(WAIT_MAX_S, 0.1 * 2.0 ** min(failures, 10))
        await self._clock.sleep(wait_s * (0.5 + 0.5 * self._chance.random()))

    async def release(self) -> int:
        """Let go of held keys whose letters have been replayed or purged meanwhile; says how many.

        A key that got a letter while this was looking stays held until the next look.
        """
        if not any(self._held.values()):
            return 0
        turn = self._turn
        dead: set[tuple[str, str]] = set()
        async for stored in self.destination.letters():
            if stored.letter.key is not None and stored.letter.holds_key:
                dead.add((stored.letter.route, stored.letter.key))
        released = 0
        for route, held in self._held.items():
            for key in [key for key in held if (route, key) not in dead]:
                if self._appended.get((route, key), 0) <= turn and not self._one_at_a_time.locked():
                    del held[key]
                    self._appended.pop((route, key), None)
                    released += 1
        return released

    async def look_again(self) -> bool:
        """``release`` at the moment when a change is about to follow its key into the dead letters; says whether any
        key was let go. A key that changes all the time would otherwise never be found without a dead letter.

        At most once a second, and for a tenth of the time: in between a change follows its key unasked.
        """
        began = self._clock.monotonic()
        if began < self._look_again_at:
            return False
        try:
            return await self.release() > 0
        except DeadLetterError as error:
            self.last_error = str(error)
            return False
        finally:
            ended = self._clock.monotonic()
            self._look_again_at = ended + max(LOOK_AGAIN_S, 9 * (ended - began))

    async def close(self) -> None:
        """Close the destination."""
        await self.destination.close()
