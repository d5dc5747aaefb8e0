"""Which status of HTTP an error becomes: one table, for the API and for pages.

The API answers with problem details (RFC 9457, application/problem+json), whose `type` is a word
that programs can rely on; docs/problems.md lists them.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework.exceptions import (
    APIException,
    AuthenticationFailed,
    MethodNotAllowed,
    NotAcceptable,
    NotAuthenticated,
    NotFound,
    ParseError,
    PermissionDenied,
    Throttled,
    UnsupportedMediaType,
    ValidationError,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from devices.commands.targets import RoleMissing, UnknownTarget
from devices.errors import (
    AlreadyRegistered,
    CommandConflict,
    CommandRefused,
    DeviceArchived,
    DeviceCannotMove,
    DeviceImportRefused,
    InventoryRefused,
    RegistrationForbidden,
    RegistrationRefused,
    TooManyDevices,
    UpgradeRefused,
)
from natsbridge.errors import (
    AlreadyResolved,
    DependencyAway,
    ForeignIdentity,
    MalformedMessage,
    NoSubscriber,
)
from natsbridge.protocol.storable import storable_json
from tenants.access.notes import note_named
from tenants.errors import (
    AlreadyMember,
    CredentialRefused,
    EnrollmentRefused,
    ExportRefused,
    IdempotencyKeyReused,
    LastAdmin,
    LimitRefused,
    MigrationRefused,
    NameTaken,
    PowerMissing,
    RotationRefused,
    StillInUse,
)


@dataclass(frozen=True)
class Problem:
    """The status and the `type` of an answer, and what docs/problems.md says of it."""

    status: int
    type: str
    meaning: str


# The nearest class counts, so a more special error may have an answer of its own.
PROBLEMS: dict[type[Exception], Problem] = {
    ValidationError: Problem(
        400, "invalid", "A field or a query parameter is wrong or unknown; `errors` names each."
    ),
    ParseError: Problem(400, "malformed", "The body is not JSON, or is nested too deeply."),
    MalformedMessage: Problem(400, "malformed", "The body is not JSON, or is nested too deeply."),
    LimitRefused: Problem(400, "limit-refused", "A limit is unknown or out of range."),
    InventoryRefused: Problem(
        400,
        "inventory-refused",
        "A tag or a custom field is unknown, or a value is not one of the field's type.",
    ),
    DeviceCannotMove: Problem(400, "device-cannot-move", "A device stays within its tenant."),
    CommandRefused: Problem(
        400, "command-refused", "This command cannot be given, whenever it is tried."
    ),
    DeviceImportRefused: Problem(
        400, "import-refused", "A row is wrong, so nothing was imported; `errors` names each."
    ),
    NotAuthenticated: Problem(401, "not-authenticated", "Send a token, or log in."),
    AuthenticationFailed: Problem(401, "authentication-failed", "The token is wrong or expired."),
    EnrollmentRefused: Problem(
        401, "enrolment-key-refused", "The enrolment key is wrong, expired, revoked or used up."
    ),
    RegistrationRefused: Problem(
        401, "registration-refused", "The proof of a registration or its key is wrong."
    ),
    PermissionDenied: Problem(
        403, "permission-denied", "A higher role, another kind of token, or a CSRF token is needed."
    ),
    DjangoPermissionDenied: Problem(
        403, "permission-denied", "A higher role, another kind of token, or a CSRF token is needed."
    ),
    ForeignIdentity: Problem(
        403, "foreign-identity", "A heartbeat names another device or tenant than the token's."
    ),
    RegistrationForbidden: Problem(
        403, "registration-forbidden", "The tenant is suspended, or the device is revoked."
    ),
    RoleMissing: Problem(403, "role-missing", "A higher role in the tenant is needed."),
    PowerMissing: Problem(403, "power-missing", "Nobody gives or takes a right that they lack."),
    TooManyDevices: Problem(
        403, "too-many-devices", "The tenant has as many devices as its limit allows."
    ),
    NotFound: Problem(404, "not-found", "There is no such thing, or it is another tenant's."),
    Http404: Problem(404, "not-found", "There is no such thing, or it is another tenant's."),
    UnknownTarget: Problem(
        404, "unknown-target", "A group, an organisation or a device of a bulk command is unknown."
    ),
    MethodNotAllowed: Problem(
        405, "method-not-allowed", "`Allow` names the methods of this address."
    ),
    NotAcceptable: Problem(406, "not-acceptable", "`Accept` excludes what this address answers."),
    DeviceArchived: Problem(409, "device-archived", "Unarchive the device first."),
    AlreadyResolved: Problem(
        409, "already-resolved", "The dead letter was replayed or discarded before."
    ),
    AlreadyMember: Problem(
        409, "already-member", "The person is a member of the tenant; change the role instead."
    ),
    AlreadyRegistered: Problem(
        409,
        "already-registered",
        "The key pair is registered; prove that you hold it.",
    ),
    CommandConflict: Problem(
        409, "command-conflict", "This cannot be done to the command or the device now."
    ),
    CredentialRefused: Problem(
        409, "credential-refused", "The tenant is suspended, or the device is revoked."
    ),
    ExportRefused: Problem(
        409, "export-refused", "An export is being made, is not ready, or has expired."
    ),
    MigrationRefused: Problem(
        409, "migration-refused", "Some of the tenant's devices have not logged in to NATS yet."
    ),
    LastAdmin: Problem(
        409, "last-admin", "The tenant would have no admin; make somebody else one first."
    ),
    NameTaken: Problem(409, "name-taken", "Another one has this name already."),
    RotationRefused: Problem(
        409, "rotation-refused", "Another rotation was faster, or its overlap is still running."
    ),
    StillInUse: Problem(409, "still-in-use", "It still has devices; move or delete them first."),
    UpgradeRefused: Problem(409, "upgrade-refused", "The device speaks NATS already, or must not."),
    IdempotencyKeyReused: Problem(
        422,
        "idempotency-key-reused",
        "The `Idempotency-Key` was used for a different request within the last 24 hours.",
    ),
    UnsupportedMediaType: Problem(415, "unsupported-media-type", "Send JSON."),
    Throttled: Problem(429, "throttled", "`Retry-After` says how many seconds to wait."),
    NoSubscriber: Problem(
        503, "no-subscriber", "No subscriber runs; the detail says how to start one."
    ),
    DependencyAway: Problem(503, "unavailable", "A server is away; try again in a moment."),
    OperationalError: Problem(503, "unavailable", "A server is away; try again in a moment."),
    InterfaceError: Problem(503, "unavailable", "A server is away; try again in a moment."),
}

INTERNAL_ERROR = Problem(500, "internal-error", "A mistake of the server, which its log explains.")

FRAMEWORK_ERRORS = (APIException, Http404, DjangoPermissionDenied)

log = structlog.get_logger(__name__)

AWAY = "The server is temporarily unavailable; try again in a moment."
# An answer must not be larger than a request in which every item is wrong.
MAX_ERRORS = 20
CONTENT_TYPE = "application/problem+json"


def problem_of(error: Exception) -> Problem | None:
    """Return what answers this error, None for one that is not in the table."""
    return next((PROBLEMS[each] for each in type(error).__mro__ if each in PROBLEMS), None)


def explained(error: Exception) -> tuple[Problem, str] | None:
    """Return the problem that an action's error is and what a person reads, None for others.

    The errors of Django and REST framework are answered by themselves, with their own headers.
    """
    problem = problem_of(error)
    if problem is None or isinstance(error, FRAMEWORK_ERRORS):
        return None
    if problem.type == "unavailable":
        log.warning("a server is away", error=str(error).strip(), exc_info=error)
        return problem, AWAY
    return problem, str(error)


def problem_details(exception: Exception, context: dict[str, Any]) -> Response | None:
    """Handle exceptions for REST framework: its status and headers, with our body."""
    answer = _answered(exception, context)
    if answer is not None and answer.status_code in (400, 404) and "request" in context:
        # What cannot be parsed names nothing.
        with suppress(APIException):
            note_named(context["request"].META, context["request"].data)
    return answer


def _answered(exception: Exception, context: dict[str, Any]) -> Response | None:
    if known := explained(exception):
        problem, text = known
        errors = _wrong_rows(exception) if isinstance(exception, DeviceImportRefused) else None
        return _answer(problem.status, problem.type, text, errors=errors)
    answer = exception_handler(exception, context)
    if answer is None:
        return None
    found = problem_of(exception)
    type_ = found.type if found else "about:blank"
    headers = {name: answer[name] for name in ("WWW-Authenticate", "Retry-After") if name in answer}
    if isinstance(exception, ValidationError):
        wrong = _flatten(exception.detail, "")
        errors = list(islice(wrong, MAX_ERRORS))
        described = [f"{e['field']}: {e['detail']}" if e["field"] else e["detail"] for e in errors]
        if next(wrong, None):
            described.append("there are more errors; correct these first")
        detail = "; ".join(described)
        return _answer(answer.status_code, type_, detail, errors=errors, headers=headers)
    detail = str(answer.data.get("detail", ""))
    return _answer(answer.status_code, type_, detail, headers=headers)


def _answer(
    status: int,
    type_: str,
    detail: str,
    *,
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return problem details; `errors` names wrong fields: `{"field": "a.b", "detail": "why"}`."""
    body = problem_body(status, type_, detail)
    if errors:
        body["errors"] = errors
    # An error may name what was sent, and half of a surrogate pair is not a text of UTF-8.
    return Response(storable_json(body), status=status, content_type=CONTENT_TYPE, headers=headers)


def problem_body(status: int, type_: str, detail: str) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    return {"type": type_, "title": title, "status": status, "detail": detail}


def _wrong_rows(refused: DeviceImportRefused) -> list[dict[str, str]]:
    return [{"field": each.place, "detail": each.detail} for each in refused.errors]


def _flatten(detail: Any, field: str) -> Iterator[dict[str, str]]:
    if isinstance(detail, dict):
        for name, inner in detail.items():
            path = "" if name == "non_field_errors" else str(name)
            yield from _flatten(inner, ".".join(part for part in (field, path) if part))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _flatten(inner, field)
    else:
        yield {"field": field, "detail": str(detail)}


def documented() -> str:
    """Return the table of docs/problems.md: each type once, by status."""
    every = [*PROBLEMS.values(), INTERNAL_ERROR]
    rows = {(each.status, each.type, each.meaning) for each in every}
    lines = [f"| `{type_}` | {status} | {meaning} |" for status, type_, meaning in sorted(rows)]
    return "\n".join(["| `type` | status | meaning |", "| --- | --- | --- |", *lines])


class NoSuchEndpointView(APIView):
    """Answer for any other address below the API's root, so that a mistyped one gets JSON too."""

    authentication_classes: list[type] = []
    permission_classes: list[type] = []
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound("No such endpoint; see /api/docs/.")
