"""The live pages of this process, and whether the people who opened them may still see them."""

import asyncio
from typing import Protocol

import structlog
from channels.db import database_sync_to_async
from django.db import Error as AnyDatabaseError

from natsbridge.errors import DependencyAway
from tenants.rights import Login, Rights, rights_of

log = structlog.get_logger(__name__)

# How soon a page notices that its person has logged out, changed the password or lost a role.
CHECK_SECONDS = 2.0


class OpenPage(Protocol):
    login: Login

    async def log_out(self) -> None: ...

    async def look_again(self) -> None: ...


class OpenPages:
    """One task checks the rights of all pages together, in a constant number of queries.

    It runs while a page is open. If it fails, all pages are closed, and their browsers come back.
    """

    def __init__(self) -> None:
        self._rights: dict[OpenPage, Rights] = {}
        self._task: asyncio.Task[None] | None = None

    async def add(self, page: OpenPage) -> bool:
        """Return False, and add nothing, where the page's login has just ended."""
        rights = await _ask([page.login])
        if page.login not in rights:
            return False
        self._rights[page] = rights[page.login]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._check_for_ever())
            self._task.add_done_callback(self._ended)
        return True

    def discard(self, page: OpenPage) -> None:
        self._rights.pop(page, None)

    async def _check_for_ever(self) -> None:
        while self._rights:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self._check()
            except (DependencyAway, AnyDatabaseError, OSError) as error:
                # A page whose own renewal fails closes itself.
                log.warning("open pages not checked", error=str(error).strip())

    async def _check(self) -> None:
        pages = list(self._rights)
        rights = await _ask([page.login for page in pages])
        for page in pages:
            before, now = self._rights.get(page), rights.get(page.login)
            if before is None or before == now:
                continue
            if now is None:
                self.discard(page)
                await page.log_out()
            else:
                self._rights[page] = now
                await page.look_again()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("the check of open pages failed", exc_info=error)
        self._task = asyncio.create_task(self._end_all())

    async def _end_all(self) -> None:
        pages = list(self._rights)
        self._rights.clear()
        for page in pages:
            await page.log_out()


async def _ask(logins: list[Login]) -> dict[Login, Rights]:
    answer: dict[Login, Rights] = await database_sync_to_async(rights_of)(logins)
    return answer
