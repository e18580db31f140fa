"""Query (PS3.4 C.4.1): C-FIND in the patient root and study root models, through the same search as QIDO-RS."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

from dicomhub.archive import Archive, search
from dicomhub.dicom.levels import Attributes
from dicomhub.dimse.bridge import Bridge
from dicomhub.dimse.data_set import Writer
from dicomhub.dimse.identifier import MAX_IDENTIFIER, Identifier, parse_identifier
from dicomhub.dimse.operation import CANCELLED, PENDING, PENDING_WITH_WARNING, SUCCESS, Operation
from dicomhub.dimse.upper_layer import Ended
from dicomhub.errors import BadRequest, DicomHubError, InvalidQuery

LOGGER = logging.getLogger(__name__)

PAGE_TIMEOUT_S = 60.0
"""Seconds that the index may take for the next page of rows."""

UNABLE_TO_PROCESS = 0xC001
"""Cxxx of PS3.4 Table C.4-1: the identifier cannot be read, or we failed."""


class Find:
    """C-FIND as SCP.

    Keys of any level may be combined, as in relational queries (PS3.4 C.4.1.2.2.2).

    Parameters
    ----------
    ae_title
        Ours, for Retrieve AE Title (0008,0054).
    """

    def __init__(self, archive: Archive, bridge: Bridge, ae_title: str) -> None:
        self._archive = archive
        self._bridge = bridge
        self._ae_title = ae_title

    def serve(self, operation: Operation) -> None:
        """PS3.4 C.4.1, PS3.7 9.1.2: a pending response per match, then the final one.

        Statuses: FF00; FF01 optional keys are not supported; FE00 cancelled; A700 out of resources; A900 the identifier
        does not match the SOP class; C001 unable to process.
        """
        try:
            self._serve(operation)
        except InvalidQuery:
            raise
        except BadRequest as error:
            operation.respond(UNABLE_TO_PROCESS, error.message)
        except (DicomHubError, Ended):
            raise
        except Exception:
            LOGGER.exception("C-FIND of %s failed", operation.source.actor.name)
            operation.respond(UNABLE_TO_PROCESS, "Internal error, see the server's log")

    def _serve(self, operation: Operation) -> None:
        data = operation.read(MAX_IDENTIFIER)
        identifier = parse_identifier(data, operation.transfer_syntax_uid, operation.command.sop_class_uid)
        pending = PENDING_WITH_WARNING if identifier.has_unsupported_keys() else PENDING
        writer = Writer(operation.transfer_syntax_uid)
        for row in self._rows(identifier, operation):
            if operation.is_cancelled():
                operation.respond(CANCELLED)
                return
            answer = identifier.answer(row, self._ae_title)
            operation.respond(pending, data_set=writer.write(answer, identifier.character_set))
        operation.respond(SUCCESS)

    def _rows(self, identifier: Identifier, operation: Operation) -> Iterator[Attributes]:
        """Rows of the result; no more than a page of them is held."""
        query = identifier.query()
        found = self._bridge.call(search.search(self._archive, query, operation.source.actor), PAGE_TIMEOUT_S)
        while page := self._bridge.call(_next(found.pages), PAGE_TIMEOUT_S):
            yield from page


async def _next(pages: AsyncIterator[list[Attributes]]) -> list[Attributes]:
    """The next page; empty at the end."""
    return await anext(pages, [])
