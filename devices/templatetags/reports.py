"""Print what devices report: quantities, clocks, and any JSON that they send."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from devices.models import Command
from devices.presence.rules import Cutoffs, Reporter
from tenants.templatetags.presentation import moment

register = template.Library()

TABLE_ROWS = 500
# Rows that share no keys would make a table of rows times keys.
TABLE_COLUMNS = 40
# A larger number is not a quantity, and an integer may be too large for a float.
LARGEST = 1e21
DASH = "\N{EN DASH}"
DEEPEST = 5
MOMENTS = {"timestamp", "boot_time", "create_time", "agent_time"}
MEASURED_IN_BYTES = ("memory", "swap", "disk", "bytes", "rss", "vms")


def percent(value: float) -> str:
    return f"{value:.1f} %"


def byte_size(value: float) -> str:
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = 0
    while abs(value) >= 1000 and power < len(units) - 1:
        value /= 1000
        power += 1
    return f"{value:.1f} {units[power]}" if power else f"{value:.0f} B"


register.filter("bytes", byte_size)


def duration(value: float) -> str:
    minutes, hours, days = int(value // 60), int(value // 3600), int(value // 86_400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{value:.0f} s"


UNITS: dict[str, Callable[[float], str]] = {
    "percent": percent,
    "bytes per second": lambda value: f"{byte_size(value)}/s",
    "seconds": duration,
}


@register.filter
def quantity(value: float | None, unit: str) -> str:
    """`value` in one of UNITS; the browser's own formatting is in static/js/quantities.js."""
    return DASH if value is None else UNITS[unit](value)


@register.filter
def reporter(value: str) -> str:
    """Return the name of what reported that a device came online or went offline."""
    return Reporter(value).spelt_out


@register.filter
def pretty_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.filter
def compact_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@register.filter
def apart(offset_seconds: float) -> str:
    """Return how far one clock is from another: "8 min behind"."""
    return f"{duration(abs(offset_seconds))} {'ahead of' if offset_seconds > 0 else 'behind'}"


@register.filter
def took(command: Command) -> str:
    """Return how long a command took from sent to finished, or an empty text."""
    if not (command.sent_at and command.finished_at):
        return ""
    seconds = max(0.0, (command.finished_at - command.sent_at).total_seconds())
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else duration(seconds)


@register.filter
def device_offline_since(command: Command, cutoffs: Cutoffs) -> datetime | None:
    """Return since when the device of a sent, open command is offline, or None."""
    return command.device.offline_since(cutoffs) if command.is_handed_over else None


@register.filter
def structured(value: Any) -> SafeString:
    """Return any JSON value as HTML: objects as term and value, lists of objects as tables. Keys
    are the device's own, in its order, so that they can be found in its documentation."""
    return _html(value, "", 0)


def _html(value: Any, name: str, depth: int) -> SafeString:
    if depth > DEEPEST and isinstance(value, dict | list):
        return format_html("<pre>{}</pre>", pretty_json(value))
    if isinstance(value, Mapping):
        return _terms(value, name, depth) if value else _none("empty")
    if isinstance(value, list):
        return _list(value, name, depth)
    return _scalar(value, name)


def _terms(value: Mapping[str, Any], name: str, depth: int) -> SafeString:
    rows = format_html_join(
        "",
        "<div><dt>{}</dt><dd>{}</dd></div>",
        ((key, _html(each, f"{name}.{key}", depth + 1)) for key, each in value.items()),
    )
    return format_html('<dl class="terms">{}</dl>', rows)


def _list(values: list[Any], name: str, depth: int) -> SafeString:
    if not values:
        return _none("none")
    if all(isinstance(each, Mapping) for each in values):
        return _table(values, name, depth)
    if all(isinstance(each, str | int | float) for each in values):
        return format_html("{}", ", ".join(str(each) for each in values))
    items = format_html_join(
        "", "<li>{}</li>", ((_html(each, name, depth + 1),) for each in values)
    )
    return format_html("<ul>{}</ul>", items)


def _table(rows: list[Any], name: str, depth: int) -> SafeString:
    shown = rows[:TABLE_ROWS]
    all_columns = list(dict.fromkeys(key for row in shown for key in row))
    columns = all_columns[:TABLE_COLUMNS]
    numeric = {
        key
        for key in columns
        if key not in MOMENTS and all(_is_number(row.get(key, 0)) for row in shown)
    }
    head = format_html_join(
        "", '<th scope="col"{}>{}</th>', ((_class(key in numeric), key) for key in columns)
    )
    body = format_html_join(
        "",
        "<tr>{}</tr>",
        ((_cells(row, columns, numeric, name, depth),) for row in shown),
    )
    more = len(rows) - len(shown)
    hidden = len(all_columns) - len(columns)
    return format_html(
        '<div class="scroll" tabindex="0" role="region" aria-label="{} rows"><table>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>{}{}",
        len(rows),
        head,
        body,
        format_html("<p>and {} more</p>", more) if more else "",
        format_html("<p>and {} more columns</p>", hidden) if hidden else "",
    )


def _cells(
    row: Mapping[str, Any], columns: list[str], numeric: set[str], name: str, depth: int
) -> SafeString:
    return format_html_join(
        "",
        "<td{}>{}</td>",
        (
            (_class(key in numeric), _html(row.get(key), f"{name}.{key}", depth + 1))
            for key in columns
        ),
    )


def _class(numeric: bool) -> SafeString:
    return SafeString(' class="number"' if numeric else "")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _scalar(value: Any, name: str) -> SafeString:
    if value is None:
        return _none(DASH)
    if isinstance(value, bool):
        return SafeString("yes" if value else "no")
    if isinstance(value, int | float):
        return _number(value, name)
    text = str(value)
    return format_html("<pre>{}</pre>" if "\n" in text else "{}", text)


def _number(value: float, path: str) -> SafeString:
    """Return a number with its unit, which agents name in the keys, as psutil does."""
    name = path.rpartition(".")[2]
    if abs(value) > LARGEST:
        return format_html("{}", value)
    if name in MOMENTS and 1e9 < value < 1e10:
        return moment(value, "exact")
    shown = f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value}"
    if value >= 0 and "uptime" in name:
        shown = duration(value)
    elif value >= 1000 and any(word in path for word in MEASURED_IN_BYTES):
        shown = byte_size(value)
    elif name.endswith("percent"):
        shown = f"{shown} %"
    return format_html('<span title="{}">{}</span>', value, shown)


def _none(text: str) -> SafeString:
    return format_html('<span class="none">{}</span>', text)
