"""Check the services that the product needs; each check has a short timeout."""

import redis
from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import connection

from natsbridge.redis import client
from natsbridge.subscriber.status import service_state


def components() -> dict[str, str]:
    """Return the state of each service: `ok`, `down`, or `unknown` if only the database could tell
    and it is down. The throttle is `open` while it limits nobody, a subscriber is `paused` while
    staff want it so."""
    database = _database()
    nats_server = subscriber = "unknown"
    if database == "ok":
        state = service_state()
        subscriber = ("paused" if state.paused else "ok") if state.running else "down"
        nats_server = "ok" if state.connected else "down" if state.running else "unknown"
    redis_state = _redis()
    return {
        "nats_server": nats_server,
        "database": database,
        "redis": redis_state,
        # Wrong tokens are counted in Redis; without it nobody is throttled.
        "throttle": "ok" if redis_state == "ok" else "open",
        "subscriber": subscriber,
    }


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except AnyDatabaseError:
        return "down"
    return "ok"


def _redis() -> str:
    try:
        client(settings.REDIS_URL).ping()
        client(settings.METRICS_REDIS_URL).ping()
    except redis.RedisError:
        return "down"
    return "ok"
