"""The few calls of the API that the drill needs, of a web that may die at any time."""

import http.client
import json
import secrets
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any
from uuid import UUID

from wegweiser.quickstart.ports import LOOPBACK

PATIENCE = 5.0


class Api:
    """One caller. Nothing is tried twice: that is for those who know what it would mean."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}

    def issue(self, device: UUID, *, real: bool) -> UUID | None:
        """A command whose runs can be counted: a real agent asks osquery, of which a fake
        writes down each run. None when no answer says that it was taken."""
        token = secrets.token_hex(8)
        body: dict[str, Any] = {"command": "probe", "parameters": {"token": token}}
        if real:
            body = {"command": "osquery", "parameters": {"query": f"select '{token}'"}}
        answer = self.post(f"/api/nats/device/{device}/command", body)
        return UUID(answer["command_id"]) if "command_id" in answer else None

    def register(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.post("/api/nats/agent/register", body)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer's object; empty when there was none or it was a refusal."""
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=PATIENCE)
        with closing(connection), suppress(OSError, http.client.HTTPException, ValueError):
            connection.request("POST", path, json.dumps(body), self._headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            if response.status < 300 and isinstance(answer, dict):
                return answer
        return {}
