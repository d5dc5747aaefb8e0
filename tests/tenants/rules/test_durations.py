from datetime import timedelta

import pytest

from tenants.rules.durations import parse_overlap


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", timedelta(0)),
        ("45", timedelta(seconds=45)),
        ("30s", timedelta(seconds=30)),
        (" 90M ", timedelta(minutes=90)),
        ("24h", timedelta(days=1)),
        ("30d", timedelta(days=30)),
    ],
)
def test_an_overlap_is_read_as_people_write_it(text: str, length: timedelta) -> None:
    assert parse_overlap(text) == length


@pytest.mark.parametrize("text", ["", "-1", "1.5h", "1 h", "h", "31d", "24h\n24h", "٣h", "1e3"])
def test_text_that_is_not_an_overlap_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"Write a number|at most 30 days"):
        parse_overlap(text)
