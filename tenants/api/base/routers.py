"""The router of the resources, which serves each address with and without its final slash."""

from typing import Any

from django.urls import register_converter
from django.urls.converters import StringConverter
from rest_framework.authentication import SessionAuthentication
from rest_framework.routers import APIRootView, DefaultRouter

from tenants.api.base.authentication import PersonTokenAuthentication
from tenants.api.base.permissions import IsPerson


class TextConverter(StringConverter):
    """A text that a column can have: Postgres stores no NUL."""

    regex = r"[^/\0]+"


register_converter(TextConverter, "text")


class Root(APIRootView):
    """List the addresses of all resources."""

    authentication_classes = [PersonTokenAuthentication, SessionAuthentication]
    permission_classes = [IsPerson]


class Router(DefaultRouter):
    APIRootView = Root
    include_format_suffixes = False

    def __init__(self) -> None:
        # Paths say what type an id is; and the audit of access tells them.
        super().__init__(use_regex_path=False)

    def get_urls(self) -> list[Any]:
        with_slash = super().get_urls()
        self.trailing_slash, self.include_root_view = "", False
        # `reverse` finds the last.
        return [*with_slash, *super().get_urls()]
