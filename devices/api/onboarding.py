"""How the fleet of a tenant moves to NATS: progress, device tokens, undo, the mark at its end."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from devices.models import Device
from devices.onboarding import upgrades
from devices.onboarding.upgrades import Progress
from tenants.api.base.serializers import RowSerializer, StrictSerializer, VisibleField
from tenants.api.base.viewsets import ResourceViewSet
from tenants.models import Group, Tenant

JSON_LINES = "application/x-ndjson"


class ProgressFields(serializers.Serializer[Any]):
    registered = serializers.IntegerField(help_text="Devices that were registered elsewhere.")
    issued = serializers.IntegerField(help_text="Of these, how many hold a token or credential.")
    seen = serializers.IntegerField(help_text="Of these, how many have logged in to the broker.")


class GroupProgressFields(serializers.Serializer[Any]):
    uuid = serializers.UUIDField()
    name = serializers.CharField(help_text="The organisation and the group.")
    progress = ProgressFields()


class MigrationSerializer(RowSerializer[Tenant]):
    progress = serializers.SerializerMethodField()

    class Meta:
        model = Tenant
        fields = ["uuid", "name", "migrated_at", "migrated_by_name", "progress"]
        read_only_fields = fields

    @extend_schema_field(ProgressFields)
    def get_progress(self, tenant: Tenant) -> Any:
        return ProgressFields(self.context["progress"].get(tenant.pk, Progress(0, 0, 0))).data


class MigrationDetailSerializer(MigrationSerializer):
    groups = serializers.SerializerMethodField()

    class Meta(MigrationSerializer.Meta):
        fields = [*MigrationSerializer.Meta.fields, "groups"]
        read_only_fields = fields

    @extend_schema_field(GroupProgressFields(many=True))
    def get_groups(self, tenant: Tenant) -> Any:
        return GroupProgressFields(upgrades.progress_by_group(tenant), many=True).data


class GroupSerializer(StrictSerializer):
    group = VisibleField(Group, required=False, help_text="Without it, the whole tenant.")


class TokensBody(GroupSerializer):
    again = serializers.BooleanField(
        required=False,
        default=False,
        help_text="Also for devices that hold a token, which becomes invalid.",
    )


class UndoBody(GroupSerializer):
    device = VisibleField(Device, required=False, help_text="This device alone.")


class UndoneAnswer(serializers.Serializer[Any]):
    undone = serializers.IntegerField()
    already_seen = serializers.IntegerField(
        help_text="Not undone, since their agents have logged in to the broker."
    )


class MarkBody(StrictSerializer):
    despite_remaining = serializers.BooleanField(
        required=False, default=False, help_text="Devices that have not logged in may stay behind."
    )


@extend_schema(tags=["Moving a fleet"])
@extend_schema_view(
    list=extend_schema(summary="List tenants with how far their fleets have moved"),
    retrieve=extend_schema(summary="Show how far a tenant's fleet has moved, by group"),
)
class MigrationViewSet(ResourceViewSet[Tenant]):
    queryset = Tenant.objects.none()
    serializer_class = MigrationSerializer
    shown: Sequence[Tenant] = ()

    def get_serializer_class(self) -> type[MigrationSerializer]:
        return MigrationSerializer if self.action == "list" else MigrationDetailSerializer

    def paginate_queryset(self, queryset: Any) -> Any:
        self.shown = super().paginate_queryset(queryset) or []
        return self.shown

    def get_object(self) -> Tenant:
        tenant = super().get_object()
        self.shown = [tenant]
        return tenant

    def get_serializer_context(self) -> dict[str, Any]:
        """Count the devices of all tenants of a page at once."""
        progress = upgrades.progress_of(self.shown)
        return {**super().get_serializer_context(), "progress": progress}

    @extend_schema(
        summary="Issue device tokens to a tenant or a group",
        request=TokensBody,
        responses={(200, JSON_LINES): OpenApiTypes.STR},
    )
    @action(detail=True, methods=["post"])
    def tokens(self, request: Request, uuid: str) -> HttpResponse:
        """Issue a device token to each device that was registered elsewhere and holds none.

        The answer has a line for each: `{"device_uuid", "name", "device_token"}`. It is the only
        place where the tokens are; if it was lost, ask with `again`. With its token an agent
        registers a key of its own: `POST /api/nats/agent/{uuid}/upgrade`.
        """
        tenant, wanted = self._checked(TokensBody)
        issued = upgrades.issue_tokens(
            tenant, wanted.get("group"), by=self.person, again=wanted["again"]
        )
        answer = HttpResponse(upgrades.token_lines(issued), content_type=JSON_LINES)
        answer["Cache-Control"] = "no-store"
        return answer

    @extend_schema(summary="Undo upgrades", request=UndoBody, responses=UndoneAnswer)
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, uuid: str) -> Response:
        """Void what was issued to the devices whose agents have not logged in to the broker."""
        tenant, wanted = self._checked(UndoBody)
        if device := wanted.get("device"):
            upgrades.undo_upgrade(device, by=self.person)
            return Response({"undone": 1, "already_seen": 0})
        done = upgrades.undo_upgrades(tenant, wanted.get("group"), by=self.person)
        return Response(UndoneAnswer(done).data)

    @extend_schema(summary="Mark a tenant as migrated", request=MarkBody)
    @action(detail=True, methods=["post"])
    def complete(self, request: Request, uuid: str) -> Response:
        """Mark that the fleet has moved; from then on no devices are imported."""
        tenant, wanted = self._checked(MarkBody)
        upgrades.mark_migrated(tenant, by=self.person, **wanted)
        return self.retrieve(request)

    @extend_schema(summary="Take back that a tenant is migrated", request=StrictSerializer)
    @action(detail=True, methods=["post"])
    def reopen(self, request: Request, uuid: str) -> Response:
        tenant, _ = self._checked(StrictSerializer)
        upgrades.unmark_migrated(tenant, by=self.person)
        return self.retrieve(request)

    def _checked(self, body: type[StrictSerializer]) -> tuple[Tenant, dict[str, Any]]:
        """Return the tenant and the body, whose group or device has to be the tenant's."""
        tenant = self.get_object()
        checked = body(data=self.request.data, context={"request": self.request, "view": self})
        checked.is_valid(raise_exception=True)
        for name in ("group", "device"):
            row = checked.validated_data.get(name)
            if row and row.tenant_id != tenant.pk:
                raise ValidationError({name: f"There is no {name} {row.pk} in this tenant."})
        return tenant, checked.validated_data
