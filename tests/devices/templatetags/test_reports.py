import re
from datetime import UTC, datetime
from typing import Any

import pytest

from devices.templatetags import reports
from devices.templatetags.reports import quantity, structured
from tenants.templatetags.presentation import moment


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (None, "percent", reports.DASH),
        (12.345, "percent", "12.3 %"),
        (0.0, "bytes per second", "0 B/s"),
        (999.0, "bytes per second", "999 B/s"),
        (1500.0, "bytes per second", "1.5 kB/s"),
        (2.5e9, "bytes per second", "2.5 GB/s"),
        (42.0, "seconds", "42 s"),
        (3_660.0, "seconds", "1 h 1 min"),
        (200_000.0, "seconds", "2 d 7 h"),
    ],
)
def test_quantities_are_human(value: float | None, unit: str, expected: str) -> None:
    assert quantity(value, unit) == expected


def test_a_moment_is_in_utc_for_the_browser_to_convert() -> None:
    at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert moment(at) == moment(at.timestamp())
    assert 'datetime="2026-03-04T05:06:07.000+00:00"' in moment(at)
    assert "never" in moment(None)


def test_numbers_get_the_unit_that_their_key_names() -> None:
    shown = structured(
        {"memory": {"total": 8_000_000_000, "percent": 12.5}, "uptime": 90, "boot_time": 1.7e9}
    )
    assert ">8.0 GB<" in shown
    assert ">12.5 %<" in shown
    assert ">1 min<" in shown
    assert 'datetime="2023-11-14' in shown


def test_a_list_of_objects_is_a_table_of_all_their_keys() -> None:
    shown = structured([{"name": "a", "pid": 1}, {"name": "b", "extra": True}])
    assert shown.count("<th ") == 3
    assert shown.count("<tr>") == 3
    assert "yes" in shown


def test_a_long_table_is_cut_and_says_so() -> None:
    rows = [{"pid": number} for number in range(reports.TABLE_ROWS + 7)]
    shown = structured(rows)
    assert shown.count("<td") == reports.TABLE_ROWS
    assert "and 7 more" in shown


def test_rows_that_share_no_keys_do_not_make_a_table_of_rows_times_keys() -> None:
    shown = structured([{f"{row}.{key}": 1 for key in range(20)} for row in range(200)])
    assert "and 3960 more columns" in shown
    assert shown.count("<td") == 200 * reports.TABLE_COLUMNS


@pytest.mark.parametrize(
    "value",
    [None, True, "", [], {}, 10**400, -1, [[1], {"a": []}], {"": None}, [None, {"a": 1}]],
    ids=str,
)
def test_any_json_value_can_be_shown(value: Any) -> None:
    assert structured(value) is not None
    assert structured({"memory": value}) is not None


def test_deep_values_end_as_json() -> None:
    value: Any = "core"
    for _ in range(100):
        value = {"a": value}
    shown = structured(value)
    assert "<pre>" in shown
    assert shown.count("<dl") == reports.DEEPEST + 1


def test_markup_in_values_and_keys_is_text() -> None:
    shown = structured({"<i>": "<b>", "list": [{"<u>": "<s>"}], "text": "<p>\n<p>"})
    for tag in ("<i>", "<b>", "<u>", "<s>", "<p>"):
        assert tag not in shown


def test_keys_are_the_devices_own_and_in_its_order() -> None:
    value = {"ttl": 64, "eth0": {"zone": 1, "addr": 2}, "cpu_count": 8, "name": "x", "": 0}
    assert re.findall("<dt>(.*?)</dt>", structured(value)) == [
        *("ttl", "eth0", "zone", "addr", "cpu_count", "name", "")
    ]
    rows = [{"ttl": 1, "ip_addr": 2}, {"pid": 3, "ttl": 4}]
    assert re.findall("<th .*?>(.*?)</th>", structured(rows)) == ["ttl", "ip_addr", "pid"]
