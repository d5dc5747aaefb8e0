"""Where agents and integrations reach the broker."""

from typing import Any

from django.conf import settings
from rest_framework import serializers


class BrokerAddressesAnswer(serializers.Serializer[Any]):
    nats_url = serializers.SerializerMethodField(help_text="The first of `nats_urls`.")
    nats_urls = serializers.SerializerMethodField(
        help_text="All addresses of the broker, to try in turn; they may differ in scheme."
    )

    def get_nats_url(self, _: object) -> str:
        return broker_urls()[0]

    def get_nats_urls(self, _: object) -> list[str]:
        return broker_urls()


def broker_urls() -> list[str]:
    """Return all addresses of the broker, the first of which is named alone as well."""
    addresses: str = settings.AGENT_NATS_URL
    return addresses.split(",")
