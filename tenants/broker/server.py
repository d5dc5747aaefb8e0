"""Configure a nats-server that trusts this installation's operator."""

import hmac
import time
from pathlib import Path

from natsbridge.identity import claims, nkeys
from natsbridge.protocol import login_request
from natsbridge.server.config import ServerConfig
from tenants.broker.accounts import Purpose, key_pair


def server_config(
    *, server_name: str, port: int, monitor_port: int, directory: Path
) -> ServerConfig:
    """Return the configuration of one server, whose data is stored below `directory`."""
    operator = key_pair(Purpose.OPERATOR)
    system = key_pair(Purpose.SYSTEM).public
    now = int(time.time())
    return ServerConfig(
        server_name=server_name,
        port=port,
        monitor_port=monitor_port,
        store_dir=directory / "jetstream",
        resolver_dir=directory / "accounts",
        operator_jwt=claims.operator_jwt(operator, system_account=system, issued_at=now),
        system_account=system,
        preload=platform_claims(),
        default_sentinel=login_request.sentinel_jwt(
            key_pair(Purpose.CALLOUT), user_public=nkeys.generate("user").public, issued_at=now
        ),
    )


def route_secret() -> str:
    """Return the secret that the servers of a cluster share.

    A server that has it can join and sees every account. It is derived from the operator's key, so
    that the file of each server has the same.
    """
    seed = key_pair(Purpose.OPERATOR).seed
    return hmac.digest(seed.encode(), b"routes of the cluster", "sha256").hex()


def platform_claims() -> dict[str, str]:
    """Return the JWTs of the platform's own accounts, by their public keys.

    A server has to know them before anybody can push the claims of tenants to it.
    """
    operator, now = key_pair(Purpose.OPERATOR), int(time.time())
    system = key_pair(Purpose.SYSTEM).public
    platform = key_pair(Purpose.PLATFORM).public
    callout = key_pair(Purpose.CALLOUT).public
    return {
        system: claims.system_account_jwt(operator, system, issued_at=now),
        platform: claims.platform_account_jwt(
            operator, platform, system_account=system, issued_at=now
        ),
        callout: claims.callout_account_jwt(
            operator,
            callout,
            user_public=key_pair(Purpose.CALLOUT_USER).public,
            xkey=key_pair(Purpose.CALLOUT_XKEY).public,
            issued_at=now,
        ),
    }
