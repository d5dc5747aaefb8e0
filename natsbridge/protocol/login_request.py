"""Read a nats-server's question to the auth callout about a login, and write the answer.

The server signs its question with its own NKey, which is its id, and seals it for the callout's
curve key; the answer is signed by the callout's account and sealed for the server's curve key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from natsbridge.errors import InvalidClaims, RejectedQuestion
from natsbridge.identity import xkeys
from natsbridge.identity.jwt import decode_jwt, signed
from natsbridge.identity.nkeys import KeyPair, is_public_key
from natsbridge.identity.permissions import NOTHING

# The header in which the server names its curve key.
XKEY_HEADER = "Nats-Server-Xkey"
# How far a server's clock may be from ours, and for how long a question is valid.
FRESH_SECONDS = 60
_AUDIENCE = "nats-authorization-request"
# A sealed question is some 2 kB; a client's certificates may be in it.
_LARGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Authority:
    """The callout's own keys: its account's pair, and its curve key pair."""

    account: KeyPair
    xkey: KeyPair


@dataclass(frozen=True, slots=True)
class Login:
    """A client's attempt to log in.

    `server` is the server's id, `user_key` the key that the server made for this one login. `kind`
    and `listener` are the server's words for the client, such as "Client" and "nats".
    """

    server: str
    server_xkey: str
    user_key: str
    kind: str
    listener: str
    address: str
    client_id: int
    username: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def is_by_a_client(self) -> bool:
        """Whether the login came over a listener for clients.

        The server does not check an admitted login against the connection types of its scoped
        key, so the callout has to.
        """
        return self.kind == "Client" and self.listener in ("nats", "websocket")


class _Server(msgspec.Struct):
    id: str
    xkey: str = ""


class _Client(msgspec.Struct):
    host: str = ""
    id: int = 0
    kind: str = ""
    type: str = ""


class _Options(msgspec.Struct):
    user: str = ""
    password: str = msgspec.field(default="", name="pass")


class _Question(msgspec.Struct):
    type: str
    server_id: _Server
    user_nkey: str
    client_info: _Client = msgspec.field(default_factory=_Client)
    connect_opts: _Options = msgspec.field(default_factory=_Options)


class _Claims(msgspec.Struct):
    iss: str
    sub: str
    aud: str
    iat: int
    exp: int
    nats: _Question


def sentinel_jwt(account: KeyPair, *, user_public: str, issued_at: int) -> str:
    """Return the bearer JWT for clients without a JWT of their own; servers ask about these.

    It is not secret and permits nothing: a client that gives the callout's own user as its
    username is admitted as this user without a question.
    """
    nats = {
        "type": "user",
        "bearer_token": True,
        **NOTHING.claim(),
        **dict.fromkeys(("subs", "data", "payload"), -1),
        "allowed_connection_types": ["STANDARD", "WEBSOCKET"],
    }
    return signed(account, user_public, nats, name="sentinel", issued_at=issued_at)


def read_question(
    data: bytes, headers: Mapping[str, str], authority: Authority, *, now: float
) -> Login:
    """Return the login that a server asks about.

    Raise RejectedQuestion unless a server has just asked this, and asked this callout. The caller
    has to check that the server is known and that the question is not a replay.
    """
    if len(data) > _LARGEST:
        raise RejectedQuestion(f"larger than {_LARGEST} bytes")
    try:
        sealed_by = headers.get(XKEY_HEADER, "")
        plain = xkeys.unseal(data, seed=authority.xkey.seed, sender=sealed_by)
        claims = msgspec.convert(decode_jwt(plain.decode()), _Claims)
    except (InvalidClaims, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise RejectedQuestion(f"malformed: {error}") from None
    question = claims.nats
    _require(question.type == "authorization_request", "not a question about a login")
    _require(is_public_key(claims.iss, "server"), "not signed by a server")
    _require(claims.iss == question.server_id.id, "signed by another server than it names")
    _require(sealed_by == question.server_id.xkey, "sealed by another key than it names")
    _require(claims.aud == _AUDIENCE, "not meant for an auth callout")
    _require(claims.sub == authority.account.public, "about another account")
    _require(is_public_key(question.user_nkey, "user"), "about no user's key")
    age = now - claims.iat
    _require(abs(age) <= FRESH_SECONDS, f"asked {age:.0f} s ago by the server's clock")
    client = question.client_info
    return Login(
        server=claims.iss,
        server_xkey=sealed_by,
        user_key=question.user_nkey,
        kind=client.kind,
        listener=client.type,
        address=client.host,
        client_id=client.id,
        username=question.connect_opts.user,
        password=question.connect_opts.password,
    )


def admission(login: Login, authority: Authority, user_jwt: str, *, issued_at: int) -> bytes:
    """Return the answer that admits the login as the user of `user_jwt`."""
    return _answer(login, authority, {"jwt": user_jwt}, issued_at)


def refusal(login: Login, authority: Authority, reason: str, *, issued_at: int) -> bytes:
    """Return the answer that refuses the login; only the server logs the reason."""
    return _answer(login, authority, {"error": reason}, issued_at)


def _answer(login: Login, authority: Authority, verdict: dict[str, str], issued_at: int) -> bytes:
    jwt = signed(
        authority.account,
        login.user_key,
        {"type": "authorization_response", **verdict},
        name="",
        issued_at=issued_at,
        audience=login.server,
    )
    return xkeys.seal(jwt.encode(), seed=authority.xkey.seed, recipient=login.server_xkey)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise RejectedQuestion(otherwise)
