"""The auth callout: the servers ask about each login that brings no JWT of its own, and a function
that is handed in says who it is.

Several callouts share the questions as a queue group. None remembers what another has been asked:
a question that is replayed to the next one yields an answer that no server waits for.
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
# Beyond this many the newest are not even kept: the server would have given up on them.
MOST_WAITING = 20_000
# The server's own patience is 10 s (`authorization.timeout`).
PATIENCE_SECONDS = 9.0
RETRY_SECONDS = 0.5
LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Admitted:
    """`user_jwt` is a user's, for the login's own `user_key`, signed by a key of its account."""

    user_jwt: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The reason is for the server's log; the client does not see it."""

    reason: str


Verdict = Admitted | Refused
# Both are synchronous, run in the callout's worker, and take a batch. A judge gives one verdict
# for each login, in their order.
Judge = Callable[[Sequence[Login]], Sequence[Verdict]]
# Takes the reasons why questions were not taken for a server's.
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
    """`connection` is the callout user's, in the callout's account. `list_servers` names the ids
    of all servers that are up, and is asked when one is unknown."""

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
        """Until stopping; whoever has been asked about by then is answered."""
        runtime = self._runtime
        await self._connection.on_client(self._listen)
        while not runtime.stopping.is_set():
            await self._answer_all()
            await runtime.pause(60.0, wake=self._arrived)
        if self._source is not None:
            with suppress(NatsError):
                await self._source.unsubscribe()
                # What the server had sent by then has arrived.
                await self._connection.client.flush()
        await self._answer_all()

    async def _listen(self, client: Client) -> None:
        self._source = await client.subscribe(CALLOUT_SUBJECT, queue=QUEUE, cb=self.receive)
        await client.flush()
        self.listening.set()

    async def receive(self, message: Msg) -> None:
        """A question, as it came."""
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
        await self._get_to_know({login.server for login, _ in read})
        asked: list[tuple[Login, _Waiting]] = []
        for login, waiting in read:
            if login.server not in self._servers:
                rejections.append("from no server of ours")
            elif not self._answered.is_first(login.user_key):
                rejections.append("replayed")
            else:
                asked.append((login, waiting))
        self._count("rejected", len(rejections))
        for reason in rejections:
            log.warning("callout question rejected", reason=reason)
        answers = await self._patiently(batch, asked, rejections)
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

    async def _get_to_know(self, servers: set[str]) -> None:
        now = time.monotonic()
        if servers <= self._servers or now - self._looked_at < LOOK_AGAIN_SECONDS:
            return
        self._looked_at = now
        try:
            self._servers = await self._list_servers()
        except (BrokerUnavailable, NatsError) as error:
            log.warning("cannot list the servers", error=str(error))

    async def _patiently(
        self,
        batch: Sequence[_Waiting],
        asked: Sequence[tuple[Login, _Waiting]],
        rejections: Sequence[str],
    ) -> list[tuple[str, bytes]]:
        """Again while the database is away, for as long as a server waits for an answer."""
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
        """Where each answer goes, and the answer."""
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
    """Remembers keys for as long as a question can pass for a fresh one."""

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
