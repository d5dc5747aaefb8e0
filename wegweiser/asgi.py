"""The web: Django for HTTP, Channels for the live pages' websockets."""

import os

import django
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wegweiser.settings")
django.setup()

from django.core.management import call_command  # noqa: E402 (needs the apps)

from devices.routing import websocket_urlpatterns  # noqa: E402
from wegweiser.origins import SameOrigin  # noqa: E402

# Daphne runs no checks by itself, and a wrong setting must not wait for the first request.
call_command("check", tags=["wegweiser"])

application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": SameOrigin(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
