"""Log what becomes of commands under the ids of the requests that issued them."""

from collections.abc import Collection, Mapping
from uuid import UUID

import structlog

log = structlog.get_logger(__name__)


def log_by_request(
    event: str, request_ids: Mapping[UUID, str], **counted: Collection[UUID]
) -> None:
    """Log one line for each request, since a bulk command has thousands of commands. `counted` says
    how many of its commands are among these."""
    by_request: dict[str, list[UUID]] = {}
    for command, request_id in request_ids.items():
        if request_id:
            by_request.setdefault(request_id, []).append(command)
    for request_id, commands in by_request.items():
        counts = {name: len(set(commands).intersection(some)) for name, some in counted.items()}
        first = str(commands[0])
        log.info(event, request_id=request_id, commands=len(commands), first=first, **counts)
