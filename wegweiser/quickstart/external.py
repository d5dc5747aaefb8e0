"""Servers that are not ours: what keeps them from answering, as they or the system put it.

Each function returns an empty text once the server answers.
"""

import socket
from urllib.parse import urlsplit

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

NATS_PORTS = {"ws": 80, "wss": 443}
PATIENCE = 5


def postgres_problem(url: str) -> str:
    try:
        with psycopg.connect(url, connect_timeout=PATIENCE):
            return ""
    except psycopg.Error as error:
        return str(error).strip()


def redis_problem(url: str) -> str:
    client = redis.Redis.from_url(
        url,
        socket_connect_timeout=PATIENCE,
        socket_timeout=PATIENCE,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        client.ping()
    except redis.RedisError as error:
        return str(error)
    return ""


def nats_problem(url: str) -> str:
    """Of the last of the servers that a NATS_URL lists, when none accepts connections."""
    problem = ""
    for each in url.split(","):
        parts = urlsplit(each.strip())
        address = (parts.hostname or "", parts.port or NATS_PORTS.get(parts.scheme, 4222))
        try:
            with socket.create_connection(address, PATIENCE):
                return ""
        except OSError as error:
            problem = str(error)
    return problem


def without_password(url: str) -> str:
    """The part of an address that may be shown."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
