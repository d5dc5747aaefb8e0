"""The service that processes messages, for staff: its state, and its pause.

Starting and stopping set what is wanted; running subscribers follow within a second, and others
when they start.
"""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from natsbridge.subscriber.report import RunState, service_report
from tenants.actions.service import pause_service, resume_service
from tenants.api import access
from tenants.api.base.fields import EpochField
from tenants.api.base.serializers import StrictSerializer
from tenants.forms.credentials import REASON_MAX
from tenants.models import Role

TAG = "service"


class PauseRequestSerializer(StrictSerializer):
    reason = serializers.CharField(
        max_length=REASON_MAX, required=False, default="", help_text="Shown on the pages."
    )


class PauseSerializer(serializers.Serializer[Any]):
    by = serializers.CharField()
    since = EpochField()
    reason = serializers.CharField()


class BreakerSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(["open", "closed"], help_text="Open while the server is away.")
    times_opened = serializers.IntegerField()
    since = serializers.DateTimeField(required=False)
    reason = serializers.CharField(required=False)


class ConsumerSerializer(serializers.Serializer[Any]):
    stream = serializers.CharField()
    consumer = serializers.CharField()
    pending = serializers.IntegerField(help_text="Messages that no subscriber has fetched yet.")
    unacknowledged = serializers.IntegerField(help_text="Messages that are being processed.")
    redelivered = serializers.IntegerField()
    lag_seconds = serializers.FloatField(
        allow_null=True,
        help_text="The age of the oldest message that waits; null where that is not known.",
    )


class SubscriberStateSerializer(serializers.Serializer[Any]):
    instance = serializers.CharField()
    started_at = EpochField()
    beat_at = EpochField(help_text="When it last wrote its status.")
    connected = serializers.BooleanField()
    paused = serializers.BooleanField()


class ServiceAnswer(serializers.Serializer[Any]):
    success = serializers.BooleanField(default=True)
    desired_state = serializers.ChoiceField([RunState.RUNNING.value, RunState.PAUSED.value])
    actual_state = serializers.ChoiceField([state.value for state in RunState])
    pause = PauseSerializer(allow_null=True)
    subscribers = SubscriberStateSerializer(many=True)
    counters = serializers.DictField(
        child=serializers.IntegerField(), help_text="Added up, each since its subscriber's start."
    )
    breakers = serializers.DictField(child=BreakerSerializer())
    consumers = ConsumerSerializer(many=True)


class ServiceStatusView(APIView):
    @extend_schema(
        summary="The state of the service, wanted and actual", tags=[TAG], responses=ServiceAnswer
    )
    def get(self, request: Request) -> Response:
        """Staff only. 503 while no subscriber runs."""
        access.staff_of(request)
        return _answer()


class StartServiceView(APIView):
    @extend_schema(summary="Resume the service", tags=[TAG], request=None, responses=ServiceAnswer)
    def post(self, request: Request) -> Response:
        """Resume intake and delivery (staff only). 503 while no subscriber runs: one that starts
        later does not pause."""
        person = access.staff_of(request, role=Role.ADMIN)
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        resume_service(by=person)
        return _answer()


class StopServiceView(APIView):
    @extend_schema(
        summary="Pause the service",
        tags=[TAG],
        request=PauseRequestSerializer,
        responses=ServiceAnswer,
    )
    def post(self, request: Request) -> Response:
        """Pause intake and delivery on every subscriber until it is started again (staff only).

        What devices send waits in its stream, commands stay queued, live metrics are dropped, and
        devices are Unknown. 503 while no subscriber runs: one that starts later is paused.
        """
        person = access.staff_of(request, role=Role.ADMIN)
        form = PauseRequestSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        pause_service(by=person, reason=form.validated_data["reason"])
        return _answer()


def _answer() -> Response:
    report = ServiceAnswer(service_report())
    return Response(report.data, headers={"Cache-Control": "no-store"})
