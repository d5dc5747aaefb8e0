"""The router of the resources, which serves each address with and without its final slash."""

from rest_framework.authentication import SessionAuthentication
from rest_framework.routers import APIRootView, DefaultRouter

from tenants.api.base.authentication import PersonTokenAuthentication
from tenants.api.base.permissions import IsPerson


class Root(APIRootView):
    """List the addresses of all resources."""

    authentication_classes = [PersonTokenAuthentication, SessionAuthentication]
    permission_classes = [IsPerson]


class Router(DefaultRouter):
    APIRootView = Root
    include_format_suffixes = False

    def __init__(self) -> None:
        super().__init__()
        self.trailing_slash = "/?"
