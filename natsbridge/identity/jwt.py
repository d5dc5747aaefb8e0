"""Sign and verify NATS JWTs of version 2 (`ed25519-nkey`), and write credentials files."""

import base64
import hashlib
import json
from typing import Any

from natsbridge.errors import InvalidClaims
from natsbridge.identity.nkeys import KeyPair, sign, verify

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_VERSION = 2


def signed(
    issuer: KeyPair,
    subject: str,
    nats: dict[str, Any],
    *,
    name: str,
    issued_at: int,
    expires_at: int | None = None,
    audience: str | None = None,
) -> str:
    claims: dict[str, Any] = {
        "iat": issued_at,
        "iss": issuer.public,
        "name": name,
        "nats": nats | {"version": _VERSION},
        "sub": subject,
    }
    if expires_at is not None:
        claims["exp"] = expires_at
    if audience is not None:
        claims["aud"] = audience
    digest = hashlib.new("sha512_256", _compact(claims)).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    content = f"{_base64url(_compact(_HEADER))}.{_base64url(_compact(claims))}"
    return f"{content}.{_base64url(sign(issuer.seed, content.encode()))}"


def decode_jwt(jwt: str) -> dict[str, Any]:
    """Return the claims of a JWT, or raise InvalidClaims if its signature is not valid.

    The caller has to check that the issuer is trusted and that the JWT has not expired.
    """
    try:
        content, _, signature = jwt.rpartition(".")
        header, payload = (json.loads(_unbase64url(part)) for part in content.split("."))
        signature_bytes = _unbase64url(signature)
    except (ValueError, RecursionError):
        raise InvalidClaims("not a JWT") from None
    if header != _HEADER or not isinstance(payload, dict):
        raise InvalidClaims("not a NATS JWT of version 2")
    if not verify(str(payload.get("iss")), content.encode(), signature_bytes):
        raise InvalidClaims("the signature is not its issuer's")
    return payload


def credentials_file(jwt: str, seed: str) -> str:
    """Return the text of a `.creds` file, which every NATS client reads. It holds a secret."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def _compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unbase64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
