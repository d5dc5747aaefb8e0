"""System checks of the settings: what is wrong, and what would be right."""

from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register


@register("wegweiser")
def settings_are_usable(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    return [
        Error(problem.message, hint=problem.hint, id="wegweiser.E001")
        for problem in settings.ENVIRONMENT.problems
    ]


@register("wegweiser")
def secrets_are_set(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    if settings.SECRET_KEY.startswith("unsafe-"):
        messages.append(
            Warning(
                "SECRET_KEY is not set.",
                hint="Sessions and tokens are only safe with 50 random characters of your own.",
                id="wegweiser.W001",
            )
        )
    if not settings.FIELD_ENCRYPTION_KEYS:
        messages.append(
            Warning(
                "FIELD_ENCRYPTION_KEY is not set; broker keys cannot be stored.",
                hint=f"Generate one: {FERNET_HINT}",
                id="wegweiser.W002",
            )
        )
    messages += [
        Error(
            f"FIELD_ENCRYPTION_KEY: {error}",
            hint=f"Give 32 bytes, url-safe base64. Generate one: {FERNET_HINT}",
            id="wegweiser.E002",
        )
        for error in map(_key_error, settings.FIELD_ENCRYPTION_KEYS)
        if error
    ]
    return messages


@register("wegweiser")
def limits_are_in_order(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if settings.ONLINE_SECONDS < settings.STALE_SECONDS:
        return []
    return [
        Error(
            "ONLINE_SECONDS is not below STALE_SECONDS.",
            hint="A device is online first, then stale, then offline: 120 and 600, say.",
            id="wegweiser.E003",
        )
    ]


FERNET_HINT = (
    'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
)


def _key_error(key: str) -> str:
    try:
        Fernet(key)
    except ValueError as error:
        return str(error)
    return ""
