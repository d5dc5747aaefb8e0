from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsbridge.errors import InvalidSubject
from natsbridge.protocol.kinds import DURABLE_TYPES
from natsbridge.protocol.subjects import (
    command_export,
    device_inbox,
    device_subject,
    parse_ingest,
    parse_metric,
    tenant_stream_name,
)

ACCOUNT = "A" + "BCDEFGH234567" * 4 + "XYZ"
TENANT = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
DEVICE = UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
INGEST = f"ingest.{ACCOUNT}.tenant.{TENANT}.device.{DEVICE}."
METRIC = f"ingest.{ACCOUNT}.demo.system.{DEVICE}."


@pytest.mark.parametrize("kind", DURABLE_TYPES)
def test_each_kind_a_device_publishes_is_read_back(kind: str) -> None:
    subject = f"ingest.{ACCOUNT}.{device_subject(TENANT, DEVICE, kind)}"
    normalised = "heartbeat" if kind == "status.heartbeat" else kind
    assert parse_ingest(subject) == (ACCOUNT, TENANT, DEVICE, normalised)


@pytest.mark.parametrize("metric", ["cpu_percent", "x", "a-b", "T9", "_", "m" * 64])
def test_a_metric_is_read_back(metric: str) -> None:
    subject = f"ingest.{ACCOUNT}.demo.system.{DEVICE}.{metric}"
    assert parse_metric(subject) == (ACCOUNT, DEVICE, metric)


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("", "not a device's subject"),
        ("ingest", "not a device's subject"),
        (INGEST.rstrip("."), "not a device's subject"),
        (INGEST.replace("ingest", "egest") + "status", "not a device's subject"),
        (INGEST.replace(".tenant.", ".tenants.") + "status", "not a device's subject"),
        (INGEST.replace(".device.", ".devices.") + "status", "not a device's subject"),
        (INGEST, "unknown message type"),
        (INGEST + "command", "unknown message type"),
        (INGEST + "status.status", "unknown message type"),
        (INGEST + "heartbeat.more", "unknown message type"),
        (INGEST.replace(str(TENANT), "*") + "status", "not a valid UUID"),
        (INGEST.replace(str(DEVICE), "") + "status", "not a valid UUID"),
        (INGEST.replace(str(DEVICE), str(DEVICE).upper()) + "status", "canonical"),
        (INGEST.replace(str(DEVICE), DEVICE.hex) + "status", "canonical"),
        (INGEST.replace(str(DEVICE), f"{{{DEVICE}}}") + "status", "canonical"),
        (INGEST.replace(ACCOUNT, "*") + "status", "not an account key"),
        (INGEST.replace(ACCOUNT, ACCOUNT.lower()) + "status", "not an account key"),
        (INGEST.replace(ACCOUNT, "U" + ACCOUNT[1:]) + "status", "not an account key"),
        (INGEST.replace(ACCOUNT, "A" * 55) + "status", "not an account key"),
        (INGEST.replace(ACCOUNT, "A" * 55 + "É") + "status", "not an account key"),
    ],
)
def test_any_other_ingest_subject_is_refused_with_the_reason(subject: str, reason: str) -> None:
    with pytest.raises(InvalidSubject, match=reason):
        parse_ingest(subject)


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("", "not a metric's subject"),
        (METRIC + "cpu.percent", "not a metric's subject"),
        (METRIC.replace("system", "user") + "cpu", "not a metric's subject"),
        (METRIC.replace("demo", "prod") + "cpu", "not a metric's subject"),
        (METRIC, "not a metric type"),
        (METRIC + "*", "not a metric type"),
        (METRIC + "é", "not a metric type"),
        (METRIC + "a:b", "not a metric type"),
        (METRIC + "m" * 65, "not a metric type"),
        (METRIC.replace(str(DEVICE), "*") + "cpu", "not a valid UUID"),
        (METRIC.replace(ACCOUNT, "A") + "cpu", "not an account key"),
    ],
)
def test_any_other_metric_subject_is_refused_with_the_reason(subject: str, reason: str) -> None:
    with pytest.raises(InvalidSubject, match=reason):
        parse_metric(subject)


@given(st.text())
def test_a_reader_refuses_whatever_it_does_not_know(text: str) -> None:
    for parse in (parse_ingest, parse_metric):
        with pytest.raises(InvalidSubject):
            parse(text)


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_a_device_that_is_not_in_canonical_form_is_refused(token: str) -> None:
    with pytest.raises(InvalidSubject):
        parse_ingest(f"ingest.{ACCOUNT}.tenant.{TENANT}.device.{token}.status")


def test_nothing_but_a_uuid_becomes_part_of_a_subject() -> None:
    for wrong in ("*", ">", str(DEVICE), None):
        for build in (
            lambda value: device_subject(TENANT, value, "command"),
            lambda value: device_subject(value, DEVICE, "command"),
            lambda value: command_export(ACCOUNT, value),
            device_inbox,
            tenant_stream_name,
        ):
            with pytest.raises(InvalidSubject):
                build(wrong)


def test_nothing_but_a_known_token_becomes_part_of_a_subject() -> None:
    for message_type in ("*", ">", "anything", ""):
        with pytest.raises(InvalidSubject):
            device_subject(TENANT, DEVICE, message_type)
    for account in ("*", ">", "", "A.B"):
        with pytest.raises(InvalidSubject):
            command_export(account, DEVICE)


def test_a_command_is_addressed_by_account_and_device() -> None:
    assert command_export(ACCOUNT, DEVICE) == f"command.{ACCOUNT}.{DEVICE}"


def test_every_tenant_has_a_stream_name_and_every_device_an_inbox_of_its_own() -> None:
    assert tenant_stream_name(TENANT) == "TENANT_0f8fad5b_d9cb_469f_a165_70867728950e_DEVICES"
    assert tenant_stream_name(TENANT) != tenant_stream_name(uuid4())
    assert device_inbox(DEVICE) == f"_INBOX_{DEVICE}"
