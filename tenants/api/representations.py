"""How values look to API clients. Times are epoch seconds, null where unknown."""

from datetime import datetime
from typing import Any

from django.conf import settings


def epoch(moment: datetime | None) -> float | None:
    return None if moment is None else round(moment.timestamp(), 3)


def broker_addresses() -> dict[str, Any]:
    """Where agents and integrations find the broker: its first address, and all of them."""
    addresses = settings.AGENT_NATS_URL.split(",")
    return {"nats_url": addresses[0], "nats_urls": addresses}
