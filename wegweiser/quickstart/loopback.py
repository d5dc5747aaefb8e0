"""HTTP to our own servers on 127.0.0.1, whatever proxy the environment names."""

import http.client
import json
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from wegweiser.quickstart.ports import LOOPBACK

NO_ANSWER = 0


@dataclass(frozen=True)
class Answer:
    """A status and a body; NO_ANSWER and nothing when nobody answered."""

    status: int = NO_ANSWER
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """The body's JSON object; empty when it is none."""
        with suppress(ValueError):
            content = json.loads(self.body)
            if isinstance(content, dict):
                return content
        return {}


def get(
    port: int, path: str, headers: Mapping[str, str] | None = None, timeout: float = 5.0
) -> Answer:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.read())
    return Answer()
