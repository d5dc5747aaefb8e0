"""The OpenAPI document: what it says of every operation."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.validation import validate_schema

from tenants.api.base.idempotency import KEY

COMMITTED = settings.BASE_DIR / "docs" / "openapi.yaml"
METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def document() -> Any:
    GENERATOR_STATS.reset()
    return SchemaGenerator().get_schema(request=None, public=True)


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    for path, methods in document["paths"].items():
        for method in methods.keys() & set(METHODS):
            yield f"{method.upper()} {path}", methods[method]


def test_it_is_valid_and_made_without_a_warning(document: Any) -> None:
    validate_schema(document)
    assert not GENERATOR_STATS, [*GENERATOR_STATS._warn_cache, *GENERATOR_STATS._error_cache]


def test_the_committed_copy_is_what_the_project_makes(document: Any) -> None:
    made = OpenApiYamlRenderer().render(document, renderer_context={})
    assert made == COMMITTED.read_bytes(), (
        "write it anew: manage.py spectacular --file docs/openapi.yaml"
    )


def test_every_operation_has_a_summary_a_tag_and_an_id_of_its_own(document: Any) -> None:
    found = dict(operations(document))
    assert len(found) > 70
    assert [name for name, each in found.items() if not each.get("summary")] == []
    assert [name for name, each in found.items() if len(each["tags"]) != 1] == []
    assert len({each["operationId"] for each in found.values()}) == len(found)


def test_every_operation_says_what_its_errors_look_like(document: Any) -> None:
    for name, each in operations(document):
        for status, answer in each["responses"].items():
            if int(status) >= 400 and status != "503":
                assert "application/problem+json" in answer["content"], f"{name}: {status}"
        if "{" in name:
            assert "404" in each["responses"], name
        assert {"401", "403"} <= each["responses"].keys() or not each.get("security"), name


def test_a_request_that_may_be_sent_twice_may_be_refused_as_another(document: Any) -> None:
    takes_a_key = {
        name: each["responses"].keys()
        for name, each in operations(document)
        if any(parameter["name"] == KEY.name for parameter in each.get("parameters", []))
    }
    assert "POST /api/nats/tenant/{uuid}/agents/broadcast" in takes_a_key
    assert [name for name, statuses in takes_a_key.items() if "422" not in statuses] == []
    assert [name for name, statuses in takes_a_key.items() if "404" not in statuses] == []
