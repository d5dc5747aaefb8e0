"""Send what schemathesis makes through Django's own client, inside of the test's transaction."""

import json
from typing import Any
from urllib.parse import urlencode

import requests
from django.db import transaction
from django.test import Client
from django.utils import timezone
from schemathesis import Response

from natsbridge.subscriber import status as status_row

SERVER = "http://testserver"


def send(case: Any, headers: dict[str, str]) -> Response:
    """Return the answer; what the request changed is undone."""
    wanted = case.as_transport_kwargs(base_url=SERVER)
    body = _body(wanted)
    own = {name: value for name, value in wanted["headers"].items() if name != "Authorization"}
    content_type = own.pop("Content-Type", case.media_type or "application/json")
    query = urlencode(wanted.get("params") or {}, doseq=True)
    with transaction.atomic():
        # Otherwise the service would count as silent after a while.
        status_row.beat("test", started_at=timezone.now(), connected=True, details={})
        answer = Client(raise_request_exception=False).generic(
            wanted["method"],
            wanted["url"].removeprefix(SERVER) + (f"?{query}" if query else ""),
            body,
            content_type,
            headers=own,
            **headers,
        )
        content = b"" if answer.streaming else answer.content
        transaction.set_rollback(True)
    return _answer(wanted, answer, content)


def _body(wanted: dict[str, Any]) -> bytes:
    if "json" in wanted:
        return json.dumps(wanted["json"]).encode()
    data = wanted.get("data") or b""
    return data if isinstance(data, bytes) else str(data).encode()


def _answer(wanted: dict[str, Any], answer: Any, content: bytes) -> Response:
    return Response(
        status_code=answer.status_code,
        headers={name: [value] for name, value in answer.items()},
        content=content,
        request=requests.Request(wanted["method"], wanted["url"]).prepare(),
        elapsed=0.0,
        verify=False,
    )
