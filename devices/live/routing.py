from channels.security.websocket import WebsocketDenier
from django.urls import path, re_path

from devices.live.consumers import DeviceConsumer, FleetConsumer

websocket_urlpatterns = [
    path("ws/devices/<uuid:uuid>/", DeviceConsumer.as_asgi()),
    path("ws/fleet/", FleetConsumer.as_asgi()),
    # Channels would raise for what it does not find.
    re_path("", WebsocketDenier.as_asgi()),
]
