"""When a change happened, as the formats write it → epoch milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime

from connector.errors import DecodeError

TIME_MAX_MS = 4_102_444_800_000
"""2100-01-01: what is later is a time in another unit, or none."""

_TEXT_MAX = 40


def checked_ms(time_ms: float) -> int:
    """A time in milliseconds, rounded and within 1970 … 2100. Raises DecodeError (``time_out_of_range``)."""
    if not 0 <= time_ms <= TIME_MAX_MS:
        raise DecodeError("time_out_of_range", "the change's time is not between 1970 and 2100: another unit?")
    return round(time_ms)


def seconds_to_ms(time: float | str) -> int:
    """Seconds as a number, or as text (Lambda's events); or ISO 8601 as AWS's command line prints it (UTC if unsaid).

    Raises DecodeError (``bad_time``, ``time_out_of_range``).
    """
    if not isinstance(time, str):
        return checked_ms(time * 1000)
    if len(time) > _TEXT_MAX or not time.isascii() or "_" in time:
        raise _bad_time()
    try:
        if "-" in time[1:] and ":" in time:
            moment = datetime.fromisoformat(time)
            return checked_ms((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        return checked_ms(float(time) * 1000)
    except (ValueError, OverflowError):
        raise _bad_time() from None


def _bad_time() -> DecodeError:
    return DecodeError("bad_time", "the change's time cannot be read")
