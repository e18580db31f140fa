"""Search for QIDO-RS, C-FIND and plugins: what matches, and what the actor may see."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from dicomhub.archive import Archive
from dicomhub.archive.retrieve import attributes as read_attributes
from dicomhub.archive.retrieve import instance as retrieve_instance
from dicomhub.dicom.levels import Attributes
from dicomhub.dicom.matching import Query, compile_matches
from dicomhub.dicom.model import Level
from dicomhub.errors import InvalidQuery, NotFound, PayloadTooLarge
from dicomhub.events import SYSTEM, Actor
from dicomhub.hooks import Access
from dicomhub.index import search as index
from dicomhub.index.plan import Plan, make_plan
from dicomhub.index.reader import Undecided
from dicomhub.index.rows import complete
from dicomhub.index.search_past import search_past

EXAMINED_MAX = 200_000
"""Rows that one search may look at in vain, where the index cannot decide by itself."""
CONDITIONS_MAX = 200
"""Conditions of one search; databases limit the size of expressions."""
SEARCH_TIME_S = 30.0
"""Seconds one search may spend looking in vain."""


class SearchResult:
    """What a search finds, as DICOM JSON objects with the attributes of ``Query.include``."""

    def __init__(self, archive: Archive, query: Query, plan: Plan, snapshot: int | None) -> None:
        self._archive = archive
        self._query = query
        self._plan = plan
        self._snapshot = snapshot
        self._examined = 0
        self._seconds = 0.0
        self.is_truncated = False
        """Whether there is more than ``Query.limit`` allowed; known when all pages were taken."""
        self.pages: AsyncIterator[list[Attributes]] = self._pages()
        """The rows in bounded pages, read from the index as they are taken, once.

        Raises
        ------
        PayloadTooLarge
            The search is too broad: too many rows were looked at in vain (PS3.18 10.6.3.1, status 413).
        """

    @property
    async def rows(self) -> AsyncIterator[Attributes]:
        """The rows one by one."""
        async for page in self.pages:
            for row in page:
                yield row

    async def _pages(self) -> AsyncIterator[list[Attributes]]:
        remaining, to_skip = self._query.limit, self._query.offset
        place: index.Place | None = index.Place()
        if remaining == 0:
            return
        if to_skip and self._plan.is_exact and self._plan.level is not Level.PATIENT and self._snapshot is None:
            place, to_skip = await self._archive.database.read(index.skip, self._plan, to_skip), 0
        while place is not None:
            # One more than is returned tells whether there are more.
            wanted = index.ROWS_MAX if remaining is None else min(index.ROWS_MAX, remaining + to_skip + 1)
            found, place = await self._look(place, wanted)
            page, to_skip = found[to_skip:], max(0, to_skip - len(found))
            if remaining is not None:
                self.is_truncated = len(page) > remaining
                page = page[:remaining]
                remaining -= len(page)
            if page:
                yield page
            if self.is_truncated:
                return

    async def _look(self, place: index.Place, wanted: int) -> tuple[list[Attributes], index.Place | None]:
        """One page of the index, with what the index leaves undecided decided."""
        began = time.monotonic()
        read = self._archive.database.read
        if self._snapshot is None:
            page = await read(index.search, self._plan, place, wanted)
        else:
            page = await read(search_past, self._plan, self._snapshot, place, wanted)
        self._seconds += time.monotonic() - began
        found = [row for one in page.rows if (row := await self._decide(one)) is not None]
        self._examined += page.examined - len(found)
        if page.following is not None:
            self._check_effort()
        return found, page.following

    def _check_effort(self) -> None:
        if self._plan.is_exact and self._snapshot is None:
            return  # every row that is looked at is a result
        if self._examined > EXAMINED_MAX or self._seconds > SEARCH_TIME_S:
            raise PayloadTooLarge(
                f"the query is too broad: {self._examined} rows were looked at in {self._seconds:.0f} s without enough "
                "matches. Add a key that narrows it, such as StudyDate, PatientID or StudyInstanceUID, or ask for fewer"
            )

    async def _decide(self, row: Attributes | Undecided) -> Attributes | None:
        """The row when it is a match, after a look at metadata that the index does not keep."""
        if not isinstance(row, Undecided):
            return row
        plan = self._plan
        holds = compile_matches(plan.rest if plan.level is Level.INSTANCE else plan.below)
        for ref in row.instances:
            self._check_effort()
            began = time.monotonic()
            try:
                # What the actor may see is among the conditions.
                stored = await retrieve_instance(self._archive, ref, SYSTEM, self._snapshot)
            except NotFound:
                continue  # deleted meanwhile
            known = complete(row.known, await read_attributes(self._archive, stored))
            self._seconds += time.monotonic() - began
            if holds(known):
                return plan.selection(known, complete=True) if plan.level is Level.INSTANCE else row.answer
        return None


async def search(archive: Archive, query: Query, actor: Actor, snapshot: int | None = None) -> SearchResult:
    """Find the patients, studies, series or instances that match and that the actor may see.

    Parameters
    ----------
    snapshot
        Search the archive as it was when the change sequence stood here; results are in the order of their UIDs then.

    Raises
    ------
    InvalidQuery
        When a criterion does not apply to its attribute, or there are too many.
    Forbidden
        When the actor may not search at all.
    """
    conditions = await archive.hooks.restrict(actor, Access.SEARCH)
    # Added last: nothing in the query (fuzzy matching, private creators) may change what the actor's conditions mean.
    plain = query.plain().where(*conditions)
    if len(plain.matches) > CONDITIONS_MAX:
        raise InvalidQuery(f"the query has {len(plain.matches)} conditions: leave all but {CONDITIONS_MAX} out")
    compile_matches(plain.matches)
    return SearchResult(archive, query, make_plan(plain), snapshot)
