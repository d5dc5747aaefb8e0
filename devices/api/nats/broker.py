"""What an agent needs beside its device token to use the broker."""

from typing import Any, cast
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from natsbridge.protocol import subjects
from tenants.api.nats.broker import BrokerAddressesAnswer
from tenants.credentials.issue import Issued
from tenants.models import Credential

# What is not obvious of some subjects.
HELP = {
    "commands": "The agent subscribes to this one, and publishes to the others.",
    "metrics": "With the metric's name, such as `cpu_percent`, in place of `{metric_type}`.",
}


class SubjectsAnswer(serializers.Serializer[Any]):
    """The subjects of one device, by message kind."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        some_device = UUID(int=0)
        return {
            name: serializers.CharField(help_text=HELP.get(name))
            for name in subjects.device_subjects(some_device, some_device)
        }


class BrokerAccessAnswer(BrokerAddressesAnswer):
    inbox_prefix = serializers.SerializerMethodField(
        help_text="To be set in the client library: acknowledgements reach no other inbox."
    )
    subjects = serializers.SerializerMethodField()

    def identity_of(self, shown: Any) -> tuple[UUID, UUID]:
        """Return the tenant and the device of what is shown."""
        return shown.tenant_id, shown.pk

    def get_inbox_prefix(self, shown: Any) -> str:
        _, device = self.identity_of(shown)
        return subjects.device_inbox(device)

    @extend_schema_field(SubjectsAnswer)
    def get_subjects(self, shown: Any) -> Any:
        return SubjectsAnswer(subjects.device_subjects(*self.identity_of(shown))).data


class CredentialsAnswer(BrokerAccessAnswer):
    """A JWT for a device that registered a key; a username and a password for any other."""

    jwt = serializers.CharField(source="secret", required=False)
    username = serializers.CharField(required=False)
    password = serializers.CharField(
        source="secret",
        required=False,
        help_text="A new one each time; the previous one ends once this one has been used.",
    )

    def identity_of(self, shown: Issued) -> tuple[UUID, UUID]:
        return shown.credential.tenant_id, cast(UUID, shown.credential.device_uuid)

    def to_representation(self, issued: Issued) -> dict[str, Any]:
        answer = super().to_representation(issued)
        by_password = issued.credential.kind == Credential.Kind.PASSWORD
        for name in ("jwt",) if by_password else ("username", "password"):
            del answer[name]
        return answer
