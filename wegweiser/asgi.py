"""The web: Django for HTTP, Channels for the live pages' websockets."""

import os
from typing import Any

import django
from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wegweiser.settings")
django.setup()

from django.core.management import call_command  # noqa: E402 (needs the apps)

from devices.live.consumers import websocket_urlpatterns  # noqa: E402
from wegweiser.origins import SameOrigin  # noqa: E402

# Daphne runs no checks by itself, and a wrong setting must not wait for the first request.
call_command("check", tags=["wegweiser"])

PROTOCOLS: dict[str, Any] = {
    "http": get_asgi_application(),
    "websocket": SameOrigin(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Another protocol, such as a server's question whether we are told of its start, is none of
    ours: it ends without an answer."""
    if protocol := PROTOCOLS.get(scope["type"]):
        await protocol(scope, receive, send)
