"""How the claims at the broker differ from those that it should have."""

from typing import Any

from natsbridge.identity.jwt import decode_jwt


def differences(present: str, wanted: str) -> list[str]:
    """Return one line for each part of the claims that differs."""
    one, other = _parts(present), _parts(wanted)
    return [
        f"{name} {'are' if name.endswith('s') else 'is'} not as the database has it"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]


def _parts(jwt: str) -> dict[str, Any]:
    decoded = decode_jwt(jwt)
    nats: dict[str, Any] = decoded.pop("nats")
    # The server may leave out what is empty.
    said = {name: value for name, value in nats.items() if value not in ({}, [])}
    return said | {name: decoded[name] for name in ("iss", "name") if name in decoded}


def templates_differ(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Return whether a key in both has another scope: the server disconnects all its users."""
    one, other = (
        {each["key"]: each for each in said["nats"].get("signing_keys", [])}
        for said in (before, after)
    )
    return any(one[key] != other[key] for key in one.keys() & other.keys())
