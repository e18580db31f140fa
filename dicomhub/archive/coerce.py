"""Attributes changed on arrival by plugins, and the trace that leaves (PS3.4 B.2.3, PS3.3 C.12.1)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from pydicom import Dataset
from pydicom.sequence import Sequence

from dicomhub.archive import Archive
from dicomhub.archive.receive import Received, describe
from dicomhub.dicom.rewrite import rewrite
from dicomhub.events import Source
from dicomhub.hooks import Coercion, Incoming


async def coerce(archive: Archive, received: Received, source: Source) -> tuple[Received, bool]:
    """Ask every plugin in order, each seeing what those before it made.

    Returns
    -------
    The instance to store, and whether it differs from what was sent.

    Raises
    ------
    Refused
        When a plugin refuses the instance.
    """
    as_received = received.record.recipe_digest
    changed = False
    for plugin in archive.hooks.coercers():
        incoming = await asyncio.to_thread(_incoming, received, source)
        coercion = await plugin.coerce(incoming)
        if coercion is not None:
            received = await asyncio.to_thread(_apply, archive, received, coercion)
            changed = True
    if changed:
        record = replace(received.record, received_digest=as_received)
        received = replace(received, record=record)
    return received, changed


def _incoming(received: Received, source: Source) -> Incoming:
    record = received.record
    return Incoming(record.ref, record.sop_class_uid, record.transfer_syntax_uid, source, _dataset(received))


def _dataset(received: Received) -> Dataset:
    return Dataset.from_json(received.metadata, bulk_data_uri_handler=lambda *_: None)


def _apply(archive: Archive, received: Received, coercion: Coercion) -> Received:
    before = _dataset(received)  # not the plugin's copy, which it may have changed: the trace tells what was sent
    original = Dataset()
    for element in coercion.replace:
        if element.tag in before:
            original[element.tag] = before[element.tag]
    for tag in coercion.remove:
        if tag in before:
            original[tag] = before[tag]
    values = Dataset()
    values.update(coercion.replace)
    earlier = before.get("OriginalAttributesSequence") or []
    values.OriginalAttributesSequence = Sequence([*earlier, _trace(original, coercion.reason)])
    split = rewrite(received.split, values, coercion.remove)
    own_file_meta, put = received.record.own_file_meta, received.put
    return describe(split, archive.store, received.parts, own_file_meta=own_file_meta, put=put)


def _trace(original: Dataset, reason: str) -> Dataset:
    """One item of Original Attributes Sequence (0400,0561)."""
    item = Dataset()
    item.ModifiedAttributesSequence = Sequence([original])
    item.AttributeModificationDateTime = datetime.now(UTC).strftime("%Y%m%d%H%M%S.%f+0000")
    item.ModifyingSystem = "dicomhub"
    item.SourceOfPreviousValues = ""
    item.ReasonForTheAttributeModification = reason[:16]
    return item
