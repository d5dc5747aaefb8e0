"""Whose pages may open a websocket here: our own, to the port."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import SplitResult, urlsplit

from channels.db import database_sync_to_async
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host

from tenants.access.websockets import record_refused_websocket

PORTS = {"http": 80, "https": 443}


class SameOrigin:
    """A browser names the page's origin, and no page can make it name another. It must be the
    origin that the websocket itself is asked of, or one that the settings name: PUBLIC_URL, for a
    proxy that hands on another Host, and CSRF_TRUSTED_ORIGINS."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        if is_ours(_header(scope, b"origin"), _header(scope, b"host")):
            return await self._application(scope, receive, send)
        await database_sync_to_async(record_refused_websocket)(scope, "", 403)
        return await WebsocketDenier()(scope, receive, send)


def is_ours(origin: str, host: str) -> bool:
    """`host` is what the browser asked for, with its port if that is not the usual one."""
    try:
        page = urlsplit(origin.lower())
        place = (page.scheme, page.hostname, _port(page))
    except ValueError:
        return False
    if page.scheme not in PORTS or not page.hostname:
        return False
    named = map(urlsplit, (settings.PUBLIC_URL, *settings.CSRF_TRUSTED_ORIGINS))
    if any(place == (each.scheme, each.hostname, _port(each)) for each in named):
        return True
    # Where pages come by https, one that did not is not ours.
    if page.scheme != "https" and settings.PUBLIC_URL.startswith("https:"):
        return False
    domain, port = split_domain_port(host)
    same_place = page.netloc in _spellings(domain, port, PORTS[page.scheme])
    return same_place and validate_host(domain, settings.ALLOWED_HOSTS)


def _spellings(domain: str, port: str, usual: int) -> Iterable[str]:
    if port in ("", str(usual)):
        return (domain, f"{domain}:{usual}")
    return (f"{domain}:{port}",)


def _port(url: SplitResult) -> int | None:
    return url.port or PORTS.get(url.scheme)


def _header(scope: Any, name: bytes) -> str:
    """The last, where it comes more than once."""
    return next(
        (value.decode("latin1") for key, value in reversed(scope["headers"]) if key == name), ""
    )
