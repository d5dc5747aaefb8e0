"""Each answer names its request, and so does each line that is logged about it."""

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from uuid import UUID

import pytest
from django.test import Client
from structlog.stdlib import ProcessorFormatter

from tenants.models import User
from wegweiser.logs import logging_configuration

OFFERED = "from-the-caller.1"


@pytest.fixture
def caller() -> Client:
    return Client(raise_request_exception=False)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, str]]]:
    """What is logged, as `LOG_FORMAT=json` writes it."""
    found: list[dict[str, str]] = []
    configured = logging_configuration(level="INFO", format="json")["formatters"]["structured"]
    formatter = ProcessorFormatter(
        processor=configured["processor"], foreign_pre_chain=configured["foreign_pre_chain"]
    )

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(formatter.format(record)))

    handler = Lines()
    logging.getLogger().addHandler(handler)
    with caplog.at_level(logging.INFO):
        yield found
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/login/", 200),
        ("/", 302),
        ("/nothing/here/", 404),
        ("/api/nats/nothing", 404),
        ("/api/nats/tenant/6f7e0f0e-0000-4000-8000-000000000000", 401),
        ("/static/wegweiser.css", 200),
    ],
)
def test_every_answer_has_the_id_of_its_request(
    db: None, caller: Client, path: str, status: int
) -> None:
    with closing(caller.get(path, headers={"X-Request-ID": OFFERED})) as answer:
        assert (answer.status_code, answer["X-Request-ID"]) == (status, OFFERED)
    with closing(caller.get(path)) as first, closing(caller.get(path)) as second:
        assert UUID(first["X-Request-ID"]) != UUID(second["X-Request-ID"])


def test_an_id_that_could_forge_a_line_is_replaced(
    db: None, caller: Client, lines: list[dict[str, str]]
) -> None:
    answer = caller.get("/login/", headers={"X-Request-ID": 'a" level="error'})
    assert UUID(answer["X-Request-ID"])
    assert {line["request_id"] for line in lines} == {answer["X-Request-ID"]}


def test_every_line_of_a_request_has_its_id(
    db: None, caller: Client, lines: list[dict[str, str]]
) -> None:
    caller.get("/nothing/here/", headers={"X-Request-ID": OFFERED})
    logged = {line["event"]: line.get("request_id") for line in lines}
    assert logged.keys() >= {"request_started", "request_finished", "Not Found: /nothing/here/"}
    assert set(logged.values()) == {OFFERED}


def test_an_error_of_ours_has_it_too(
    caller: Client,
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[dict[str, str]],
) -> None:
    caller.force_login(alice)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("devices.views.fleet.render", fail)
    answer = caller.get("/", headers={"X-Request-ID": OFFERED})
    assert (answer.status_code, answer["X-Request-ID"]) == (500, OFFERED)
    failed = [line for line in lines if "ZeroDivisionError" in line.get("exception", "")]
    assert failed
    assert {line["request_id"] for line in failed} == {OFFERED}
