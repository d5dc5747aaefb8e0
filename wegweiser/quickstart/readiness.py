"""Whether a part of the system does its work yet."""

from datetime import datetime
from pathlib import Path
from typing import LiteralString

import psycopg

from wegweiser.quickstart.loopback import Answer, get
from wegweiser.quickstart.state import read_object


def subscriber_listens(database_url: str, since: datetime) -> bool:
    """Whether a subscriber has said, since then, that it is connected to the broker."""
    return _has_row(
        database_url,
        "SELECT 1 FROM natsbridge_subscriberstatus WHERE connected AND beat_at >= %s",
        since,
    )


def tenant_is_provisioned(database_url: str, tenant_uuid: str, since: datetime) -> bool:
    """Whether the tenant's account and stream were seen at the broker since then."""
    return _has_row(
        database_url,
        "SELECT 1 FROM tenants_brokeraccount WHERE tenant_id = %s AND provisioned_at >= %s",
        tenant_uuid,
        since,
    )


def web_is_healthy(port: int) -> bool:
    return get(port, "/api/nats/health").status == 200


def device_of_agent(configuration: Path) -> str:
    """The uuid that an agent has got; empty before its registration."""
    return str(read_object(configuration / "agent.json").get("device_uuid", ""))


def device_exists(web_port: int, api_token: str, device_uuid: str) -> bool:
    return _device_status(web_port, api_token, device_uuid).status != 404


def heartbeat_arrived(web_port: int, api_token: str, device_uuid: str, since: float) -> bool:
    """Whether the device has been heard since then (epoch seconds)."""
    if not device_uuid:
        return False
    status = _device_status(web_port, api_token, device_uuid).json()
    last_heartbeat = status.get("last_heartbeat")
    return isinstance(last_heartbeat, int | float) and last_heartbeat >= since


def _device_status(web_port: int, api_token: str, device_uuid: str) -> Answer:
    headers = {"Authorization": f"Token {api_token}"}
    return get(web_port, f"/api/nats/device/{device_uuid}/status", headers)


def _has_row(database_url: str, query: LiteralString, *parameters: object) -> bool:
    try:
        with psycopg.connect(database_url, connect_timeout=5) as connection:
            return connection.execute(query, parameters).fetchone() is not None
    except psycopg.OperationalError:
        return False
