"""Every operation of the API's document, sent what nobody expects, by callers of every role.

No answer may be a 5xx, or anything that the document does not say. `make fuzz` sends more, and
FUZZ_EXAMPLES=50 FUZZ_SEED=7 in the environment change how many, and which.
"""

import json
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import schemathesis
from django.core.serializers.json import DjangoJSONEncoder
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as effort
from hypothesis.errors import Unsatisfiable
from pytest_django.fixtures import Settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tenants.models import Group
from tests.suites.fuzz.requests_of import send
from tests.suites.permissions.table import CALLERS
from tests.suites.permissions.world import World, build

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
HURRIED = effort(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


@pytest.fixture
def world(group_a: Group, group_b: Group, redis_server: object, settings: Settings) -> World:
    for of in ("PERSON", "TOKEN", "DEVICE", "ADDRESS"):
        setattr(settings, f"{of}_REQUESTS_PER_MINUTE", 0)
    return build(group_a, group_b)


def operations() -> Iterator[Any]:
    document = SchemaGenerator().get_schema(request=None, public=True)
    plain = json.loads(json.dumps(document, cls=DjangoJSONEncoder))
    for found in schemathesis.openapi.from_dict(plain).get_all_operations():
        yield found.ok()


def real_ids(world: World, case: Any) -> dict[str, str]:
    ids = world.ids_in(f"{case.method} {case.path}")
    parts = pairwise(case.path.split("/"))
    return {part[1:-1]: ids[before] for before, part in parts if part[:1] == "{" and before in ids}


def test_no_operation_fails_or_answers_what_the_document_does_not_say(world: World) -> None:
    choose = random.Random(SEED)  # noqa: S311
    wrong: list[str] = []

    def attempt(case: Any) -> None:
        caller = choose.choice(CALLERS)
        # Most ids that are made up lead nowhere.
        if choose.random() < 0.7:
            case.path_parameters = {**case.path_parameters, **real_ids(world, case)}
        try:
            case.validate_response(send(case, world.callers[caller]), checks=CHECKS)
        except FailureGroup as failures:
            told = "; ".join(f"{each} {each.message[:400]}" for each in failures.exceptions)
            wrong.append(f"{case.method} {case.path} ({caller}): {told}")

    for operation in operations():
        modes = list(GenerationMode)
        for mode in modes if EXAMPLES > 1 else [choose.choice(modes)]:
            made = given(case=operation.as_strategy(generation_mode=mode))
            # What has no parameter cannot be called wrongly.
            with suppress(Unsatisfiable):
                seed(SEED)(HURRIED(made(attempt)))()
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong)
