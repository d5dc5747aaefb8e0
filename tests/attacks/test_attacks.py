"""Every actor tries every attack on a real nats-server, and gets what the table says."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.attacks.machine import Machine
from tests.attacks.stage import Stage
from tests.attacks.table import ACTORS, ATTACKS, Actor, Attack, markdown
from tests.broker import Broker, StartNats
from tests.plugin import allot_port

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machine(
    start_session_nats: StartNats, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Machine]:
    leaf_node_port = allot_port()
    broker = Broker(
        start_session_nats,
        tmp_path_factory.mktemp("attacks"),
        additional=f'leafnodes {{ host: "127.0.0.1", port: {leaf_node_port} }}\n',
        websocket_port=allot_port(),
    )
    stage = Stage(broker, leaf_node_port)
    machine = Machine(stage)
    try:
        await stage.prepare()
        yield machine
    finally:
        await machine.close()
        await stage.close()
        broker.server.stop()


@pytest.mark.xdist_group("attacks")
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("actor", ACTORS, ids=lambda actor: actor.name)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_what_comes_of_it(machine: Machine, attack: Attack, actor: Actor) -> None:
    assert await machine.attempt(actor, attack.deed) == attack.expected(actor)


def test_the_readme_shows_this_table() -> None:
    _, _, rest = README.read_text().partition("<!-- attack table -->\n")
    shown, _, _ = rest.partition("<!-- /attack table -->")
    assert shown.strip() == markdown()


def test_no_two_attacks_have_one_name() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
