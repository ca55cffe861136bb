"""Reads times and durations that operators type.

What a time may be, such as not in the past, is checked in `service/keys/admin.py`.
"""

import re
from datetime import UTC, date, datetime, time, timedelta

import typer

_DURATION = re.compile(r"([0-9]{1,6})([smhdw]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_END_OF_DAY = time(23, 59, 59, tzinfo=UTC)


def duration_s(text: str, option: str) -> int:
    """Return a duration such as 0, 30m, 2h, 7d or 1w in seconds; raises `typer.BadParameter`, naming the option."""
    found = _DURATION.fullmatch(text)
    if found is None or (not found[2] and int(found[1])):
        raise typer.BadParameter(f"{text!r} is not a duration such as 0, 30m, 2h, 7d or 1w", param_hint=option)
    return int(found[1]) * _UNITS_S[found[2]]


def expiry(text: str | None, now: datetime, option: str) -> datetime | None:
    """Return when a key expires: after a duration, at the end of a day in UTC, or at a time, in UTC without a zone."""
    if text is None:
        return None
    try:
        if (found := _DURATION.fullmatch(text)) and found[2]:
            return now + timedelta(seconds=duration_s(text, option))
        at = datetime.fromisoformat(text)
        if _is_day(text):
            return datetime.combine(at.date(), _END_OF_DAY)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is not a day such as 2027-01-31, a time such as 2027-01-31T12:00:00Z, "
            "or a duration such as 30m, 2h, 30d or 1w",
            param_hint=option,
        ) from None


def _is_day(text: str) -> bool:
    """Return whether a time in ISO 8601 is a day without an hour: 2027-01-31, 20270131 or 2027-W04-7."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
