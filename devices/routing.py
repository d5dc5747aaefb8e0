from django.urls import path

from devices.consumers import DeviceConsumer, FleetConsumer

websocket_urlpatterns = [
    path("ws/devices/<uuid:uuid>/", DeviceConsumer.as_asgi()),
    path("ws/fleet/", FleetConsumer.as_asgi()),
]
