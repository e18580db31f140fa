"""Prove that every version can be read back bit for bit.

1. Every blob of the index is there, has its length, and (unless quick) its digest.
2. Every version's recipe has its digest, adds up to the version's size, and needs only blobs that passed.
3. Counts, intervals and the change sequence agree.
4. Blobs of the store that the index does not know are listed: leftovers of interrupted uploads, for the sweep.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from dicomhub.archive import Archive
from dicomhub.archive.parts import unpack
from dicomhub.dicom.recipe import Recipe, decode_recipe
from dicomhub.errors import Corrupt
from dicomhub.index import check
from dicomhub.index.check import VersionRow
from dicomhub.index.records import BlobRow
from dicomhub.index.sweep import wanted

PAGE = 200
"""Rows that one look into the index brings."""
FINDINGS_MAX = 1000
"""Findings that are named; the others are counted."""


@dataclass
class Report:
    """What was looked at, and what is wrong."""

    blobs: int = 0
    bytes: int = 0
    versions: int = 0
    unreferenced: int = 0
    """Blobs of the store that the index does not know: harmless."""
    damage: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every version can be read back."""
        return self.damage == 0

    def found(self, text: str) -> None:
        """Count damage, and name it while there are not too many."""
        self.damage += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)


async def verify(archive: Archive, *, quick: bool, progress: Callable[[Report], None] = lambda _: None) -> Report:
    """Look at everything; a server may run meanwhile.

    Parameters
    ----------
    quick
        Ask for the presence and length of stored blobs only; do not read them.
    progress
        Is told the report so far, after every page.
    """
    report = Report()
    bad: set[bytes] = set()
    async for row in _blobs(archive):
        error = await _blob_error(archive, row, quick=quick)
        report.blobs += 1
        report.bytes += row.size
        if error is not None:
            if not await archive.database.read(wanted, [row.digest]):
                continue  # it was swept just now
            bad.add(row.digest)
            report.found(error)
        if report.blobs % PAGE == 0:
            progress(report)
    async for version in _versions(archive):
        report.versions += 1
        for error in await _version_errors(archive, version, bad):
            ref = version.ref
            report.found(f"version {version.version_id} of instance {ref.instance} in study {ref.study}: {error}")
        if report.versions % PAGE == 0:
            progress(report)
    for text in await archive.database.read(check.contradictions):
        report.found(text)
    report.unreferenced = await _unreferenced(archive)
    progress(report)
    return report


async def _blobs(archive: Archive) -> AsyncIterator[BlobRow]:
    after = b""
    while page := await archive.database.read(check.blobs, after, PAGE):
        for row in page:
            yield row
        after = page[-1].digest


async def _versions(archive: Archive) -> AsyncIterator[VersionRow]:
    after = 0
    while page := await archive.database.read(check.versions, after, PAGE):
        for row in page:
            yield row
        after = page[-1].version_id


async def _blob_error(archive: Archive, row: BlobRow, *, quick: bool) -> str | None:
    """What is wrong with a blob, None if nothing."""
    digest = hashlib.sha256()
    if row.data is not None:
        try:
            digest.update(unpack(row))
        except Corrupt as error:
            return error.message
    else:
        size = await archive.store.stat(row.digest)
        if size is None:
            return f"blob {row.digest.hex()} is missing from the store"
        if size != row.size:
            return f"blob {row.digest.hex()} has {size} bytes instead of {row.size}"
        if quick:
            return None
        try:
            async for chunk in archive.store.open_range(row.digest, 0, row.size):
                digest.update(chunk)
        except Corrupt as error:
            return error.message
    if digest.digest() != row.digest:
        return f"blob {row.digest.hex()} does not have the digest that it is named by"
    return None


async def _version_errors(archive: Archive, version: VersionRow, bad: set[bytes]) -> list[str]:
    if hashlib.sha256(version.recipe).digest() != version.recipe_digest:
        return ["its recipe does not have its digest"]
    try:
        recipe = decode_recipe(version.recipe)
        view = decode_recipe(version.view_recipe) if version.view_recipe is not None else None
    except Corrupt as error:
        return [error.message]
    needed = _digests(recipe) | (_digests(view) if view is not None else set())
    if version.frame_table_digest is not None:
        needed.add(bytes(version.frame_table_digest))
    errors = []
    if recipe.size != version.size:
        errors.append(f"its parts have {recipe.size} bytes together, the file had {version.size}")
    errors += [f"it needs the damaged blob {digest.hex()}" for digest in needed & bad]
    there = await archive.database.read(wanted, list(needed))
    errors += [f"it needs blob {digest.hex()}, which the index does not know" for digest in needed - there]
    unprotected = needed - await archive.database.read(check.registered, version.version_id)
    errors += [f"blob {digest.hex()} is not protected from the sweep" for digest in unprotected]
    return errors


def _digests(recipe: Recipe) -> set[bytes]:
    return {recipe.header_digest, *(segment.digest for segment in recipe.segments)}


async def _unreferenced(archive: Archive) -> int:
    """Blobs of the store that the index does not know."""
    count = 0
    page: set[bytes] = set()  # a bucket may list a key twice while it is overwritten
    async for info in archive.store.list():
        page.add(info.digest)
        if len(page) >= PAGE:
            count += len(page - await archive.database.read(wanted, list(page)))
            page = set()
    return count + len(page - await archive.database.read(wanted, list(page)))
