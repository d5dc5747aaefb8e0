"""What the admin pages of every app share; here because imports run downwards."""

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
    """Rows that the platform writes: shown to whoever may view them, changed by nobody."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def label(text: str, kind: str) -> SafeString:
    """A coloured word; `kind` is success, warning, danger, info or anything else for grey."""
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": kind})


def moment(time: datetime | None, otherwise: str = "-") -> str:
    """As lists show a time, for a column or a field that is computed."""
    return otherwise if time is None else formats.localize(localtime(time))


def preformatted(text: str) -> SafeString:
    """Escaped, with its line breaks; cut where a page would become too heavy."""
    shown = format_html(
        # Focusable, so that the keyboard can scroll what is long.
        '<pre class="preformatted" tabindex="0">{}</pre>',
        text[:SHOWN_CHARACTERS],
    )
    if len(text) <= SHOWN_CHARACTERS:
        return shown
    return format_html(
        "{}<p>The first {} of {} characters.</p>",
        shown,
        intcomma(SHOWN_CHARACTERS),
        intcomma(len(text)),
    )


def pretty_json(value: object) -> SafeString:
    return preformatted(json.dumps(value, indent=2, ensure_ascii=False))
