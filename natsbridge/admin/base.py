"""Share what the admin pages of every app need; it is here because imports run downwards."""

import json
from datetime import datetime

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import Model
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import formats
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from unfold.admin import ModelAdmin

SHOWN_CHARACTERS = 20_000


class ReadOnlyAdmin(ModelAdmin):
    """Rows that the platform writes: people may view them, with permission, but not change them."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def label(text: str, kind: str) -> SafeString:
    """Return a coloured label; `kind` is success, warning, danger, info, or else grey."""
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": kind})


def moment(time: datetime | None, otherwise: str = "-") -> str:
    """Format a time as the admin's lists do, for a computed column or field."""
    return otherwise if time is None else formats.localize(localtime(time))


def preformatted(text: str) -> SafeString:
    """Return the text escaped and with its line breaks, cut to SHOWN_CHARACTERS."""
    shown = format_html(
        # Focusable, so that the keyboard can scroll what is long.
        '<pre class="preformatted" tabindex="0">{}</pre>',
        text[:SHOWN_CHARACTERS],
    )
    if len(text) <= SHOWN_CHARACTERS:
        return shown
    return format_html(
        "{}<p>Only the first {} of {} characters are shown.</p>",
        shown,
        intcomma(SHOWN_CHARACTERS),
        intcomma(len(text)),
    )


def pretty_json(value: object) -> SafeString:
    return preformatted(json.dumps(value, indent=2, ensure_ascii=False))
