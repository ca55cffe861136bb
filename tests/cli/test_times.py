"""Times that operators type, in each form of ISO 8601 that the standard library reads."""

from datetime import UTC, datetime, timedelta

import pytest
import typer

from authz.cli.times import expiry

NOW = datetime(2027, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2027-01-31", "20270131", "2027-W04-7", "2027W047"])
def test_a_day_in_any_form_ends_with_its_last_second(text: str) -> None:
    assert expiry(text, NOW, "--expires") == END


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-01-31T00:00", END.replace(hour=0, minute=0, second=0)),
        ("20270131T12Z", END.replace(hour=12, minute=0, second=0)),
        ("2027-02-01T01:59:59+02:00", END),
        ("90s", NOW + timedelta(seconds=90)),
    ],
)
def test_a_time_is_itself(text: str, expected: datetime) -> None:
    assert expiry(text, NOW, "--expires") == expected


@pytest.mark.parametrize(
    "text", ["2027-031", "2027-01", "2027-01-31Z", "1W", "9999-12-31T23:00-12:00", "\u0662h", " 2h"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        expiry(text, NOW, "--expires")
