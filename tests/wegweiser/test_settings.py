"""Settings: all of them documented, and a wrong one said in words."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from pytest_django.fixtures import Settings

from wegweiser.environment import Environment

ROOT = Path(__file__).resolve().parents[2]
# A server's address is commented out, since `make run` starts no server that is named.
EXAMPLE = re.compile(r"^(?:# )?([A-Z_]+)=(.*)$", re.MULTILINE)


def test_the_example_names_every_setting_and_no_other() -> None:
    documented = {name for name, _ in EXAMPLE.findall((ROOT / ".env.example").read_text())}
    # WEB_PORT is for `manage.py quickstart`, which runs before there are settings.
    assert documented == settings.ENVIRONMENT.names | {"WEB_PORT"}


def test_the_examples_values_are_the_defaults() -> None:
    """As an environment, the example means the same as none."""
    values = dict(EXAMPLE.findall((ROOT / ".env.example").read_text()))
    script = (
        "from wegweiser import settings; "
        "values = {name: getattr(settings, name) for name in dir(settings) if name.isupper()}; "
        "print({n: v for n, v in values.items() "
        "if isinstance(v, (str, int, list)) and ' at 0x' not in repr(v)}, settings.DATABASES)"
    )

    def output_with(environment: dict[str, str]) -> str:
        return subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert output_with(values) == output_with({})


WRONG = [
    ("METRICS_MAX_POINTS", "many", "whole number"),
    ("METRICS_MAX_POINTS", "0", "at least 1"),
    ("DATABASE_URL", "mysql://localhost/x", "postgres://"),
    ("REDIS_URL", "localhost:6379", "redis://"),
    ("NATS_URL", "http://localhost", "nats://"),
    ("NATS_URL", "nats://localhost:99999", "nats://"),
    ("LOG_LEVEL", "LOUD", "DEBUG, INFO"),
    ("DEBUG", "perhaps", "true or false"),
    ("FIELD_ENCRYPTION_KEY", "short", "32 bytes"),
    ("ONLINE_SECONDS", "700", "120 and 600"),
]
Run = dict[str, tuple[str, str]]


def runs() -> list[Run]:
    """All of WRONG in as few runs of the check as can be, since each takes a second."""
    made: list[Run] = []
    for name, value, hint in WRONG:
        run = next((run for run in made if name not in run), None)
        if run is None:
            made.append(run := {})
        run[name] = (value, hint)
    return made


@pytest.mark.parametrize("wrong", runs(), ids=" ".join)
def test_each_wrong_setting_is_a_system_check_with_a_hint_and_not_a_traceback(wrong: Run) -> None:
    checked = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env={name: value for name, (value, _) in wrong.items()},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 1
    assert "Traceback" not in checked.stderr
    # Warnings alone would not have it fail.
    errors = checked.stderr.partition("\nWARNINGS:")[0].split("\n?: ")[1:]
    for name, (_, hint) in wrong.items():
        assert any(name in error and hint in error for error in errors), name


def test_all_that_is_wrong_is_said_at_once() -> None:
    environment = Environment({"A": "x", "B": "-1", "C": "5"})
    values = [environment.integer(name, 7) for name in "ABC"]
    assert values == [7, 7, 5]
    assert [problem.name for problem in environment.problems] == ["A", "B"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "redis://:pw@host:1234/2"),
        ({"DB": "3"}, "redis://:pw@host:1234/3"),
        ({"HOST": "other"}, "redis://:pw@other:1234/2"),
        ({"HOST": "other", "PORT": "1", "DB": "0"}, "redis://:pw@other:1/0"),
    ],
)
def test_the_metrics_redis_is_the_other_one_but_for_what_is_set(
    variables: dict[str, str], expected: str
) -> None:
    environment = Environment(variables)
    url = environment.redis_url("redis://:pw@host:1234/2", host="HOST", port="PORT", database="DB")
    assert url == expected


def test_no_model_changed_without_its_migration(db: None) -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_a_database_of_another_release_is_refused_before_anything_is_changed(db: None) -> None:
    MigrationRecorder(connection).record_applied("devices", "0008_written_json")
    with pytest.raises(SystemCheckError, match="0008_written_json is unknown here"):
        call_command("migrate", verbosity=0, skip_checks=False)


def test_a_logged_traceback_shows_no_local_variable() -> None:
    formatter = settings.LOGGING["formatters"]["structured"]["()"](
        **{k: v for k, v in settings.LOGGING["formatters"]["structured"].items() if k != "()"}
    )
    secret_value = "wge_local"
    try:
        raise RuntimeError("shown")
    except RuntimeError:
        record = logging.LogRecord("test", 40, "", 1, "failed", None, sys.exc_info())
    text = formatter.format(record)
    assert "RuntimeError: shown" in text
    assert text.count(secret_value) == 0


def test_of_asyncio_only_the_end_of_a_tls_connection_goes_unlogged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = "returning true from eof_received() has no effect when using ssl"
    logging.getLogger("asyncio").warning(told)
    logging.getLogger("asyncio").warning("something else")
    logging.getLogger("other").warning(told)
    assert [(each.name, each.getMessage()) for each in caplog.records] == [
        ("asyncio", "something else"),
        ("other", told),
    ]


def test_what_leaves_this_computer_unencrypted_is_warned_of(
    settings: Settings, tmp_path: Path
) -> None:
    def said() -> list[str]:
        everything = checks.run_checks(tags=["wegweiser"])
        wanted = ("wegweiser.W003", "wegweiser.E004")
        return sorted(each.msg for each in everything if each.id in wanted)

    assert said() == []
    settings.PUBLIC_URL = "http://wegweiser.example"
    settings.NATS_URL = "nats://somebody:secret@nats.example:4222"
    settings.AGENT_NATS_URL = "tls://nats.example:443,ws://nats.example"
    settings.NATS_CA_FILE = tmp_path / "nowhere.pem"
    assert said() == [
        "AGENT_NATS_URL is not encrypted: nats.example.",
        f"NATS_CA_FILE: {settings.NATS_CA_FILE} is not a file of certificates in PEM: "
        "No such file or directory.",
        "NATS_URL is not encrypted: nats.example.",
        "PUBLIC_URL is not encrypted: wegweiser.example.",
    ]


def test_room_that_one_device_could_fill_is_warned_of(settings: Settings) -> None:
    def said() -> list[str]:
        everything = checks.run_checks(tags=["wegweiser"])
        return [each.msg for each in everything if each.id == "wegweiser.W005"]

    assert said() == []
    settings.INGEST_MAX_BYTES = 1024**3
    assert said() == ["One device can fill the stream INGEST."]
    settings.DEVICE_MESSAGE_BYTES = 16 * 1024
    assert said() == []


def test_the_addresses_of_a_cluster_are_of_one_kind(settings: Settings) -> None:
    def said() -> list[str]:
        return [each.msg for each in checks.run_checks(tags=["wegweiser"]) if "mixes" in each.msg]

    settings.NATS_URL = "tls://one.example:4222,tls://two.example:4222"
    assert said() == []
    settings.NATS_URL = "tls://one.example:4222,wss://two.example"
    assert said() == ["NATS_URL mixes addresses of different kinds."]


def test_several_addresses_may_be_given_to_agents() -> None:
    schemes = ("nats", "tls", "wss")
    good = Environment({"A": "tls://a.example:4222,wss://a.example/nats"})
    assert good.urls("A", "nats://x", schemes=schemes) == good.variables["A"]
    wrong = Environment({"A": "tls://a.example:4222,http://a.example"})
    assert wrong.urls("A", "nats://x", schemes=schemes) == "nats://x"
    assert [problem.name for problem in wrong.problems] == ["A"]
