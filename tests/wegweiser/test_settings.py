"""Settings: all of them documented, and a wrong one said in words."""

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command

from wegweiser.environment import Environment

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"^([A-Z_]+)=(.*)$", re.MULTILINE)


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


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
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
    ],
)
def test_a_wrong_setting_is_a_system_check_with_a_hint_and_not_a_traceback(
    name: str, value: str, hint: str
) -> None:
    checked = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env={name: value},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 1
    assert name in checked.stderr
    assert hint in checked.stderr
    assert "Traceback" not in checked.stderr


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
