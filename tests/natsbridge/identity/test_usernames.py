from uuid import UUID

import pytest

from natsbridge.identity.usernames import Username, parse_username, username_of

TENANT = UUID("0b6a7d54-5f0e-4f0e-9d0a-2f1f8f7f1a01")
DEVICE = UUID("0b6a7d54-5f0e-4f0e-9d0a-2f1f8f7f1a02")


def test_a_username_is_read_as_it_was_built() -> None:
    assert parse_username(username_of(TENANT, DEVICE)) == Username(device=DEVICE)
    assert parse_username(username_of(TENANT, None)) == Username(tenant=TENANT)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "hunter2",
        f"device_{DEVICE}\n",
        f"Device_{DEVICE}",
        f"device_{str(DEVICE).upper()}",
        f"device_{DEVICE.hex}",
        f"platform_{DEVICE}",
    ],
)
def test_any_other_name_is_nobodys(name: str) -> None:
    assert parse_username(name) is None
