"""Values as people read them: times, and names that are our own keys."""

from datetime import UTC, datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants.audit.rules.wording import in_words

register = template.Library()
register.filter(in_words)

ABBREVIATIONS = {"cpu", "os", "ip", "id", "uuid", "pid", "ram", "mac", "rss", "vms", "url", "fqdn"}


@register.filter
def moment(value: datetime | float | None, style: str = "relative") -> SafeString:
    """A `<time>` of a datetime or of epoch seconds. Without JavaScript it reads as UTC; with it,
    as the browser's zone, `relative` ("12 s ago") or `exact`."""
    if value is None or value == "":
        return format_html('<span class="none">{}</span>', "never")
    at = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    at = at.astimezone(UTC)
    return format_html(
        '<time datetime="{}" data-style="{}">{}</time>',
        at.isoformat(timespec="milliseconds"),
        style,
        at.strftime("%Y-%m-%d %H:%M:%S UTC"),
    )


@register.filter
def label(key: str) -> str:
    """Spell out a key of our own: `old_credential` -> "Old credential"."""
    words = str(key).replace("_", " ").split()
    spelt = [word.upper() if word.lower() in ABBREVIATIONS else word for word in words]
    if spelt and spelt[0].islower():
        spelt[0] = spelt[0].capitalize()
    return " ".join(spelt) or str(key)


@register.filter
def unlocalised(value: float) -> str:
    """As SVG reads numbers."""
    return f"{value:g}"


@register.simple_tag
def sort_key(current: str, name: str) -> str:
    """The next sort when the heading of `name` is clicked."""
    return f"-{name}" if current == name else name
