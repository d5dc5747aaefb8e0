"""The table of message kinds, and the names on the wire that follow from it."""

from uuid import UUID

import pytest
from django.utils.module_loading import autodiscover_modules

from natsbridge.identity.permissions import device_permissions
from natsbridge.protocol.kinds import DURABLE_TYPES, HANDLED_KINDS, Transport, message_types
from natsbridge.protocol.subjects import INGEST_PATTERNS, LATEST_PATTERNS, device_subjects
from natsbridge.registry import Registry, registry

TENANT = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
DEVICE = UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")


def test_no_name_means_two_kinds() -> None:
    names = message_types(*Transport)
    assert sorted(names) == sorted(set(names))


def test_the_names_on_the_wire_are_those_that_agents_speak() -> None:
    own = f"tenant.{TENANT}.device.{DEVICE}"
    assert device_subjects(TENANT, DEVICE) == {
        "heartbeat": f"{own}.heartbeat",
        "status": f"{own}.status",
        "responses": f"{own}.response",
        "monitoring": f"{own}.monitoring",
        "sysinfo": f"{own}.sysinfo",
        "commands": f"{own}.command",
        "metrics": f"demo.system.{DEVICE}.{{metric_type}}",
    }
    durable = ["heartbeat", "status", "status.heartbeat", "response", "monitoring", "sysinfo"]
    assert list(DURABLE_TYPES) == durable


def test_each_durable_kind_is_stored_once_and_may_be_published() -> None:
    assert {pattern.split(".", 6)[6] for pattern in INGEST_PATTERNS} == {"response", "monitoring"}
    stored = [pattern.split(".", 6)[6] for pattern in (*INGEST_PATTERNS, *LATEST_PATTERNS)]
    assert sorted(stored) == sorted(DURABLE_TYPES)
    allowed = device_permissions(TENANT).publish
    assert {f"tenant.{TENANT}.device.{{{{name()}}}}.{name}" for name in stored} < set(allowed)


def test_each_durable_kind_has_a_handler() -> None:
    autodiscover_modules("handlers")
    assert set(registry.handlers) == HANDLED_KINDS


@pytest.mark.parametrize("name", ["status.heartbeat", "command", "metric", "sysinf"])
def test_only_durable_kinds_have_handlers(name: str) -> None:
    with pytest.raises(ValueError, match="is not the kind of a durable message"):
        Registry().handler(name)(lambda messages: [])
