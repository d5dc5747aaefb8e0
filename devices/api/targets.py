"""Choose the devices of a bulk command, and count them."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from devices.api.serializers import NewCommandSerializer
from devices.commands import targets
from devices.commands.bulk import Targets
from devices.filters.inventory import MOST_FIELDS, MOST_TAGS, PREFIX, TOO_MANY_FIELDS
from devices.inventory.rules import LONGEST_TEXT
from devices.presence.rules import Status
from tenants.api.base.permissions import person_of, require
from tenants.api.base.serializers import BoundedListField, StrictSerializer
from tenants.models import Role, User

MAX_LISTED = 10_000


class FilterSerializer(StrictSerializer):
    """The filters of devices; also `field.NAME`, with the value of a custom field."""

    q = serializers.CharField(required=False, max_length=200)
    status = serializers.ChoiceField([each.value for each in Status], required=False)
    tenant = serializers.UUIDField(required=False)
    organisation = serializers.UUIDField(required=False)
    group = serializers.UUIDField(required=False)
    connection_type = serializers.CharField(required=False, max_length=20)
    platform = serializers.CharField(required=False, max_length=100)
    agent_version = serializers.CharField(required=False, max_length=64)
    tag = BoundedListField(
        child=serializers.CharField(max_length=50),
        required=False,
        min_length=1,
        max_length=MOST_TAGS,
        help_text="Names; a device has all of them.",
    )

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Take any custom field's value as text, as a query string has it."""
        if not isinstance(data, dict):
            return super().to_internal_value(data)
        fields = {name: value for name, value in data.items() if str(name).startswith(PREFIX)}
        if len(fields) > MOST_FIELDS:
            raise serializers.ValidationError(TOO_MANY_FIELDS)
        others = {name: value for name, value in data.items() if name not in fields}
        return super().to_internal_value(others) | {
            name: self._text(name, value) for name, value in fields.items()
        }

    def _text(self, name: str, value: Any) -> str:
        """Return a custom field's value. A blank one would choose every device, so it is wrong."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            problem = "This must be text or a number."
        elif not (text := str(value).strip()):
            problem = "This may not be blank."
        elif len(text) > LONGEST_TEXT:
            problem = f"At most {LONGEST_TEXT} characters."
        else:
            return text
        raise serializers.ValidationError({name[:100]: problem})


class BulkCommandSerializer(NewCommandSerializer):
    """A command, with exactly one of `group`, `organisation`, `filter` and `devices`."""

    group = serializers.UUIDField(required=False)
    organisation = serializers.UUIDField(required=False)
    filter = FilterSerializer(required=False)
    devices = BoundedListField(
        child=serializers.UUIDField(), required=False, min_length=1, max_length=MAX_LISTED
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        targets = {"group", "organisation", "filter", "devices"}.intersection(attrs)
        if len(targets) != 1:
            raise serializers.ValidationError(
                "Give exactly one of group, organisation, filter, devices."
            )
        return attrs


class BulkPreviewAnswer(serializers.Serializer[Any]):
    target = serializers.CharField()
    total = serializers.IntegerField(
        source="preview.total", help_text="Devices that would get the command."
    )
    by_status = serializers.SerializerMethodField(help_text="online, stale, offline, unknown.")
    left_out = serializers.DictField(
        source="preview.left_out",
        child=serializers.IntegerField(),
        help_text="Devices that would not get it, counted by reason.",
    )

    def get_by_status(self, shown: dict[str, Any]) -> dict[str, int]:
        counts: dict[Status, int] = shown["preview"].by_status
        return {status.lower(): count for status, count in counts.items()}


def asked_of(request: Request) -> tuple[User, Targets, dict[str, Any]]:
    """Return the person, the devices they chose and the body, for an operator of their tenant."""
    person = person_of(request)
    form = BulkCommandSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    data = form.validated_data
    wanted = _targets(person, data)
    require(request, wanted.tenant.pk, Role.OPERATOR)
    return person, wanted, data


def _targets(person: User, data: dict[str, Any]) -> Targets:
    if "group" in data:
        return targets.of_group(person, data["group"])
    if "organisation" in data:
        return targets.of_organisation(person, data["organisation"])
    if "devices" in data:
        return targets.of_devices(person, data["devices"])
    return targets.of_filter(person, data["filter"])
