from django.urls import path

from devices.consumers import DeviceConsumer

websocket_urlpatterns = [path("ws/devices/<uuid:uuid>/", DeviceConsumer.as_asgi())]
