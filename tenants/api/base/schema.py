"""What the OpenAPI document says of every endpoint, so that no view has to repeat it."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import get_lib_doc_excludes
from drf_spectacular.utils import Direction, OpenApiResponse
from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS

from tenants.api.base.idempotency import KEY
from tenants.api.base.serializers import RowSerializer, StrictFields, StrictSerializer
from tenants.api.base.viewsets import ListViewSet, ResourceViewSet

Endpoint = tuple[str, str, str, Any]
PROBLEM = "application/problem+json"


class WrongField(serializers.Serializer[Any]):
    field = serializers.CharField(help_text="Its path, such as `parameters.path`; may be empty.")
    detail = serializers.CharField()


class ProblemDetails(serializers.Serializer[Any]):
    """An error (RFC 9457). `type` is one of the words of docs/problems.md."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="For people; it may change.")
    errors = WrongField(  # type: ignore[assignment]  # the name of the RFC's example
        many=True, required=False, help_text="Beside the type `invalid` only."
    )


class DescribedSchema(AutoSchema):
    """Describe the errors that an endpoint may answer, by its path, method and callers."""

    def get_operation_id(self) -> str:
        """Return `device_archive` for the action `archive` of the resource `device`."""
        basename, action = (getattr(self.view, name, None) for name in ("basename", "action"))
        if basename and action:
            return f"{basename}_{action}".replace("-", "_")
        return super().get_operation_id()

    def get_tags(self) -> list[str]:
        """Return what the view names, or for an agent's endpoint what its address is about."""
        about = re.search(r"/api/(?:nats/)?(agent|command|device|health|tenant)\b", self.path)
        return [f"Agents' API: {about[1]}"] if about else super().get_tags()

    def _get_response_bodies(self, direction: Direction = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        if self.method == "GET":
            bodies["304"] = {"description": "`If-None-Match` names the answer as it is now."}
        for status in self._problems():
            described = OpenApiResponse(ProblemDetails, status.phrase)
            if str(status.value) not in bodies:
                bodies[str(status.value)] = self._get_response_for_code(
                    described, str(status.value), [PROBLEM], direction
                )
        return bodies

    def _problems(self) -> Iterator[HTTPStatus]:
        yield HTTPStatus.BAD_REQUEST
        if self.view.get_authenticators():
            yield HTTPStatus.UNAUTHORIZED
            yield HTTPStatus.FORBIDDEN
        # A body too may name what there is not.
        if "{" in self.path or self.method not in SAFE_METHODS:
            yield HTTPStatus.NOT_FOUND
        if KEY in self.get_override_parameters():
            yield HTTPStatus.UNPROCESSABLE_ENTITY
        if self.method not in SAFE_METHODS:
            yield HTTPStatus.CONFLICT
            yield HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        if KEY in self.get_override_parameters():
            yield HTTPStatus.UNPROCESSABLE_ENTITY
        yield from getattr(self.view, "described_problems", ())
        yield HTTPStatus.TOO_MANY_REQUESTS
        yield HTTPStatus.SERVICE_UNAVAILABLE


def without_final_slash(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Describe each address once, although resources have it with a final slash as well."""
    paths = {path for path, *_ in endpoints}
    return [each for each in endpoints if each[0].rstrip("/") not in paths - {each[0]}]


def undocumented() -> list[type]:
    """Return the classes whose docstrings are for engineers, and say nothing of an endpoint."""
    return [
        *get_lib_doc_excludes(),
        *(RowSerializer, StrictFields, StrictSerializer),
        *(ListViewSet, ResourceViewSet),
    ]
