"""Every actor tries every attack on a real nats-server, and gets what the table says."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from django.core.management import call_command
from pytest_django import DjangoDbBlocker

from tests.plugin import allot_port
from tests.suites.attacks.deeds import ACTORS, Actor
from tests.suites.attacks.machine import Machine
from tests.suites.attacks.registration import Registered, register
from tests.suites.attacks.stage import Stage
from tests.suites.attacks.table import ATTACKS, markdown
from tests.support.broker import Broker, StartNats

NAMES = [attack.name for attack in ATTACKS]
README = Path(__file__).resolve().parents[3] / "README.md"


@pytest.fixture(scope="module")
def registered(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Registered]:
    """Rows that are committed, since the callout reads them over a connection of its own."""
    with django_db_blocker.unblock():
        try:
            yield register()
        finally:
            # With content types and permissions made again, which the tests after these need.
            call_command("flush", interactive=False, verbosity=0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(
    registered: Registered, start_session_nats: StartNats, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Machine]:
    leaf_node_port = allot_port()
    broker = Broker(
        start_session_nats,
        tmp_path_factory.mktemp("attacks"),
        additional=f'leafnodes {{ host: "127.0.0.1", port: {leaf_node_port} }}\n',
        websocket_port=allot_port(),
        callout=True,
    )
    stage = Stage(broker, leaf_node_port, registered)
    machine = Machine(stage)
    try:
        await stage.prepare()
        yield machine
    finally:
        await machine.close()
        await stage.close()
        broker.server.stop()


@pytest.mark.django_db
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("actor", ACTORS, ids=lambda actor: actor.name)
async def test_what_comes_of_each_attack(machine: Machine, actor: Actor) -> None:
    outcomes = await machine.attempt_all(actor, [attack.deed for attack in ATTACKS])
    assert dict(zip(NAMES, outcomes, strict=True)) == {
        attack.name: attack.expected(actor) for attack in ATTACKS
    }


def test_the_readme_shows_this_table() -> None:
    _, _, rest = README.read_text().partition("<!-- attack table -->\n")
    shown, _, _ = rest.partition("<!-- /attack table -->")
    assert shown.strip() == markdown()


def test_no_two_attacks_have_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES)
