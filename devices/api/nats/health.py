"""The health of the installation, for load balancers and people."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices import health


class HealthAnswer(serializers.Serializer[Any]):
    status = serializers.CharField()
    components = serializers.DictField(child=serializers.CharField())


class HealthView(APIView):
    """Report the health of each component, without a login, naming no address and no error."""

    authentication_classes: list[type] = []
    permission_classes: list[type] = []

    @extend_schema(
        summary="Show whether the service works",
        responses={200: HealthAnswer, 503: HealthAnswer},
        auth=[],
    )
    def get(self, request: Request) -> Response:
        components = health.components()
        # A load balancer must not take away the web, through which the service is started again.
        healthy = all(state in ("ok", "paused") for state in components.values())
        body: dict[str, Any] = {
            "status": "healthy" if healthy else "unhealthy",
            "components": components,
        }
        return Response(HealthAnswer(body).data, status=200 if healthy else 503)
