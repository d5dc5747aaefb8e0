"""Dead letters: messages that could not be used, for staff to look at, replay and discard."""

import base64
from typing import Any

from django.core.validators import EMPTY_VALUES
from django.db.models import QuerySet
from django.db.models.functions import Length
from django_filters import CharFilter, ChoiceFilter, FilterSet, UUIDFilter
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from natsbridge.dead_letters import store
from natsbridge.models import DeadLetter
from tenants.api.base.filters import FilterSetBackend, MomentFilter
from tenants.api.base.permissions import MayInAdmin
from tenants.api.base.serializers import RowSerializer, StrictSerializer
from tenants.api.base.viewsets import ResourceViewSet


class DeadLetterSerializer(RowSerializer[DeadLetter]):
    size = serializers.IntegerField(read_only=True, help_text="Of the body as stored, in bytes.")

    class Meta:
        model = DeadLetter
        fields = [
            *("id", "state", "reason", "detail", "subject", "source"),
            *("account", "tenant", "device", "kind", "attempts", "size", "whole_size"),
            *("received_at", "dead_lettered_at", "replay_requested_at", "replay_requested_by"),
            *("resolved_at", "resolved_by"),
        ]
        read_only_fields = fields


class WholeDeadLetterSerializer(DeadLetterSerializer):
    body = serializers.SerializerMethodField(help_text="Base64.")

    class Meta(DeadLetterSerializer.Meta):
        fields = [*DeadLetterSerializer.Meta.fields, "headers", "body"]
        read_only_fields = fields

    def get_body(self, message: DeadLetter) -> str:
        return base64.b64encode(message.body).decode()


class CountSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField(help_text="How many were waiting, and are not any more.")


class DeadLetterFilters(FilterSet):
    reason = CharFilter(max_length=40)
    state = ChoiceFilter(choices=DeadLetter.State.choices)
    tenant = UUIDFilter()
    device = UUIDFilter()
    kind = CharFilter(max_length=64)
    since = MomentFilter("dead_lettered_at", "gte")
    until = MomentFilter("dead_lettered_at", "lt", help_text="Excluded.")


@extend_schema(tags=["Dead letters"])
@extend_schema_view(
    list=extend_schema(summary="List dead letters, without their bodies"),
    retrieve=extend_schema(summary="Show a dead letter", responses=WholeDeadLetterSerializer),
)
class DeadLetterViewSet(ResourceViewSet[DeadLetter]):
    queryset = DeadLetter.objects.none()
    serializer_class = DeadLetterSerializer
    permission_classes = [MayInAdmin]
    filterset_class = DeadLetterFilters
    lookup_field = "id"
    lookup_value_converter = "int"
    ordering_fields = ("id", "received_at", "dead_lettered_at")
    ordering = "-id"
    search_fields = ("subject", "detail")

    def get_queryset(self) -> QuerySet[DeadLetter]:
        rows = DeadLetter.objects.managed_by(self.request.user).annotate(size=Length("body"))
        return rows if self.action == "retrieve" else rows.defer("body", "headers")

    def get_serializer_class(self) -> Any:
        return WholeDeadLetterSerializer if self.action == "retrieve" else DeadLetterSerializer

    def query_parameters(self) -> set[str]:
        if self.action in ("replay_matching", "discard_matching"):
            return FilterSetBackend().parameters(self.request, self)
        return super().query_parameters()

    @extend_schema(
        summary="Replay a dead letter", request=None, responses={202: DeadLetterSerializer}
    )
    @action(detail=True, methods=["post"])
    def replay(self, request: Request, id: str) -> Response:
        """Ask the subscribers to pass it to its handler again; `state` shows when that is done."""
        message = self._waiting(request)
        store.request_replay(self._rows([message]), by=self.person.get_username())
        return Response(self.get_serializer(self.get_object()).data, status=202)

    @extend_schema(summary="Discard a dead letter", request=None, responses=DeadLetterSerializer)
    @action(detail=True, methods=["post"])
    def discard(self, request: Request, id: str) -> Response:
        """It cannot be replayed afterwards."""
        message = self._waiting(request)
        store.discard(self._rows([message]), by=self.person.get_username())
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(
        summary="Replay all that match the filters",
        filters=True,
        request=None,
        responses={202: CountSerializer},
    )
    @action(detail=False, methods=["post"], url_path="replay", filter_backends=[FilterSetBackend])
    def replay_matching(self, request: Request) -> Response:
        """Of those that are waiting; at least one filter is needed."""
        count = store.request_replay(self._matching(request), by=self.person.get_username())
        return Response(CountSerializer({"count": count}).data, status=202)

    @extend_schema(
        summary="Discard all that match the filters",
        filters=True,
        request=None,
        responses=CountSerializer,
    )
    @action(detail=False, methods=["post"], url_path="discard", filter_backends=[FilterSetBackend])
    def discard_matching(self, request: Request) -> Response:
        """Of those that are waiting; at least one filter is needed."""
        count = store.discard(self._matching(request), by=self.person.get_username())
        return Response(CountSerializer({"count": count}).data)

    def _waiting(self, request: Request) -> DeadLetter:
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        message: DeadLetter = self.get_object()
        store.require_waiting(message)
        return message

    def _matching(self, request: Request) -> QuerySet[DeadLetter]:
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        rows = self.get_queryset()
        filters = FilterSetBackend().get_filterset(request, rows, self)
        # As they are read: a blank one would select every message.
        chosen = filters.form.cleaned_data.values() if filters.is_valid() else [True]
        if all(value in EMPTY_VALUES for value in chosen):
            raise ValidationError("Name at least one filter, such as ?reason=malformed.")
        return self._rows(self.filter_queryset(rows).values("pk"))

    def _rows(self, wanted: Any) -> QuerySet[DeadLetter]:
        """Return the same rows without the annotation."""
        keys = [each.pk for each in wanted] if isinstance(wanted, list) else wanted
        return DeadLetter.objects.managed_by(self.request.user).filter(pk__in=keys)
