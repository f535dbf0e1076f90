"""Moments are UTC: written with their offset, and read as UTC where a file names none. A naive datetime is refused."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["aware", "utc"]


def utc(text: str) -> datetime:
    """The moment of an ISO 8601 text, in UTC; one without an offset is taken to be UTC.

    Raises:
        ValueError: it is no moment.

    >>> utc("2026-03-29T02:30:00+02:00").isoformat(), utc("2026-03-29T02:30:00").isoformat()
    ('2026-03-29T00:30:00+00:00', '2026-03-29T02:30:00+00:00')
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no ISO 8601 moment such as 2026-01-31T12:00:00+00:00") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def aware(moment: datetime) -> datetime:
    """The moment in UTC; ValueError for one without a time zone, of which nobody knows when it is."""
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone; write datetime.now(UTC), or .replace(tzinfo=UTC)")
    return moment.astimezone(UTC)
