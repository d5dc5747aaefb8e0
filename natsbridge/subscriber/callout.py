"""Answer the servers' questions about logins without a JWT: the auth callout.

The caller passes the function that judges a login. Several callouts share the questions as a queue
group. None remembers what another was asked: a question that is replayed to another callout yields
an answer that no server waits for.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from natsbridge.client.connection import Connection
from natsbridge.errors import BrokerUnavailable, RejectedQuestion
from natsbridge.identity.permissions import CALLOUT_SUBJECT
from natsbridge.protocol import login_request
from natsbridge.protocol.login_request import FRESH_SECONDS, Authority, Login
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker

log = structlog.get_logger(__name__)

QUEUE = "callout"
BATCH = 200
# Beyond this many, further ones are dropped: the server would give up before their turn.
MOST_WAITING = 20_000
# The server gives up after 10 s (`authorization.timeout`).
PATIENCE_SECONDS = 9.0
RETRY_SECONDS = 0.5
LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """The login is admitted as the user of `user_jwt`, which is for the login's `user_key`."""

    user_jwt: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The login is refused; the server logs the reason, the client does not see it."""

    reason: str


Verdict = Admitted | Refused
# Both are synchronous, run in the callout's worker, and take a batch. A judge gives one verdict
# for each login, in their order.
Judge = Callable[[Sequence[Login]], Sequence[Verdict]]
# Takes the reasons for which questions were rejected.
RejectionRecorder = Callable[[Sequence[str]], None]
ServerList = Callable[[], Awaitable[frozenset[str]]]


@dataclass(frozen=True, slots=True)
class _Waiting:
    message: Msg
    arrived_at: float

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self.arrived_at < PATIENCE_SECONDS


class Callout:
    """Answers questions over `connection`, of the callout's user in the callout's account.

    `list_servers` returns the ids of all servers that are up; it is called for an unknown one.
    """

    def __init__(
        self,
        runtime: Runtime,
        connection: Connection,
        authority: Authority,
        worker: Worker,
        *,
        judge: Judge,
        record_rejections: RejectionRecorder,
        list_servers: ServerList,
    ) -> None:
        self._runtime = runtime
        self._connection = connection
        self._authority = authority
        self._worker = worker
        self._judge = judge
        self._record_rejections = record_rejections
        self._list_servers = list_servers
        self._waiting: deque[_Waiting] = deque()
        self._servers: frozenset[str] = frozenset()
        self._looked_at = float("-inf")
        self._arrived = asyncio.Event()
        self._source: Subscription | None = None
        self.listening = asyncio.Event()
        self._answered = _Once()
        runtime.gauges["auth.waiting"] = lambda: len(self._waiting)

    async def run(self) -> None:
        """Answer until stopping, and then every question that has been asked by then."""
        runtime = self._runtime
        await self._connection.on_client(self._listen)
        while not runtime.stopping.is_set():
            await self._answer_all()
            await runtime.pause(60.0, wake=self._arrived)
        if self._source is not None:
            with suppress(NatsError):
                await self._source.unsubscribe()
                # After the flush, all that the server had sent has arrived.
                await self._connection.client.flush()
        await self._answer_all()

    async def _listen(self, client: Client) -> None:
        self._source = await client.subscribe(CALLOUT_SUBJECT, queue=QUEUE, cb=self.receive)
        await client.flush()
        self.listening.set()

    async def receive(self, message: Msg) -> None:
        """Take a question from the subscription."""
        if len(self._waiting) >= MOST_WAITING:
            self._count("dropped")
            return
        self._waiting.append(_Waiting(message, time.monotonic()))
        self._arrived.set()

    async def _answer_all(self) -> None:
        while self._waiting:
            size = min(BATCH, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(size)]
            due = [each for each in batch if each.is_due]
            self._count("too_late", len(batch) - len(due))
            if due:
                await self._answer(due)

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        read, rejections = await self._worker.run(self._read, batch)
        await self._refresh_servers({login.server for login, _ in read})
        asked: list[tuple[Login, _Waiting]] = []
        for login, waiting in read:
            if login.server not in self._servers:
                rejections.append("from an unknown server")
            elif not self._answered.is_first(login.user_key):
                rejections.append("replayed")
            else:
                asked.append((login, waiting))
        self._count("rejected", len(rejections))
        for reason in rejections:
            log.warning("callout question rejected", reason=reason)
        answers = await self._decide_when_possible(batch, asked, rejections)
        await self._send(answers)

    def _read(self, batch: Sequence[_Waiting]) -> tuple[list[tuple[Login, _Waiting]], list[str]]:
        read, rejections, now = [], [], time.time()
        for each in batch:
            message = each.message
            try:
                login = login_request.read_question(
                    message.data, message.headers or {}, self._authority, now=now
                )
            except RejectedQuestion as error:
                rejections.append(str(error))
            else:
                read.append((login, each))
        return read, rejections

    async def _refresh_servers(self, servers: set[str]) -> None:
        now = time.monotonic()
        if servers <= self._servers or now - self._looked_at < LOOK_AGAIN_SECONDS:
            return
        self._looked_at = now
        try:
            self._servers = await self._list_servers()
        except (BrokerUnavailable, NatsError) as error:
            log.warning("could not list the servers", error=str(error))

    async def _decide_when_possible(
        self,
        batch: Sequence[_Waiting],
        asked: Sequence[tuple[Login, _Waiting]],
        rejections: Sequence[str],
    ) -> list[tuple[str, bytes]]:
        """Decide, and try again while the database is away, until no server waits any more."""
        while True:
            try:
                return await self._worker.run(self._decide, asked, rejections)
            except DATABASE_AWAY as error:
                log.warning("logins wait for the database", error=str(error).strip())
                if self._runtime.stopping.is_set() or not any(each.is_due for each in batch):
                    self._count("too_late", len(asked))
                    return []
                await self._runtime.pause(RETRY_SECONDS)

    def _decide(
        self, asked: Sequence[tuple[Login, _Waiting]], rejections: Sequence[str]
    ) -> list[tuple[str, bytes]]:
        """Return each answer with its subject."""
        if rejections:
            self._record_rejections(rejections)
        if not asked:
            return []
        verdicts = self._judge([login for login, _ in asked])
        now = int(time.time())
        answers = []
        for (login, waiting), verdict in zip(asked, verdicts, strict=True):
            if isinstance(verdict, Admitted):
                answer = login_request.admission(
                    login, self._authority, verdict.user_jwt, issued_at=now
                )
                self._count("admitted")
            else:
                answer = login_request.refusal(
                    login, self._authority, verdict.reason, issued_at=now
                )
                self._count("refused")
            answers.append((waiting.message.reply, answer))
        return answers

    async def _send(self, answers: Sequence[tuple[str, bytes]]) -> None:
        for number, (subject, answer) in enumerate(answers):
            try:
                await self._connection.client.publish(subject, answer)
            except NatsError as error:
                self._count("unsent", len(answers) - number)
                log.warning("answers about logins lost", error=str(error))
                return

    def _count(self, what: str, number: int = 1) -> None:
        if number:
            self._runtime.counters[f"auth.{what}"] += number


class _Once:
    """Remembers keys for as long as a question with one of them could be replayed."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._order: deque[tuple[float, str]] = deque()

    def is_first(self, key: str) -> bool:
        now = time.monotonic()
        while self._order and self._order[0][0] < now:
            self._keys.discard(self._order.popleft()[1])
        if key in self._keys:
            return False
        self._keys.add(key)
        self._order.append((now + 2 * FRESH_SECONDS, key))
        return True
