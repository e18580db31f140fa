"""Databases of both kinds, fresh for each test, and records to fill them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from dicomhub.config import Config
from dicomhub.dicom.model import InstanceRef
from dicomhub.events import Actor, Peer, Source
from dicomhub.index.database import Database, open_database
from dicomhub.index.migrations import migrate
from dicomhub.index.records import BlobRow, InstanceRecord

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
SOURCE = Source(Actor("tester"), Peer("192.0.2.7", "SCU", "DICOMHUB"), "import", "because")


_POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgresql)

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For a test of what only this database does."""
POSTGRESQL = pytest.mark.parametrize("database_url", [_POSTGRESQL], indirect=True)
"""Likewise."""


@pytest.fixture(params=["sqlite", _POSTGRESQL])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a migrated, empty database, once of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/index.sqlite"
    else:
        url = request.getfixturevalue("postgresql_url")
    migrate(url)
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await open_database(Config(database_url=database_url))
    yield opened
    await opened.close()


@dataclass
class Records:
    """Makes records of one study after the other; equal arguments make equal records."""

    def __call__(
        self,
        study: str = "1.2.3",
        series: str = "1",
        instance: str = "1",
        content: str = "",
        *,
        sop_class_uid: str = CT,
        transfer_syntax_uid: str = EXPLICIT,
        own_file_meta: bool = True,
        file_meta: str = "",
        modality: str = "CT",
        study_attributes: dict[str, Any] | None = None,
        series_attributes: dict[str, Any] | None = None,
        instance_attributes: dict[str, Any] | None = None,
    ) -> InstanceRecord:
        ref = InstanceRef(study, f"{study}.{series}", f"{study}.{series}.{instance}")
        header = orjson.dumps([ref.instance, content, sop_class_uid])
        recipe = header + file_meta.encode() + transfer_syntax_uid.encode()
        of_study = {"0020000D": {"vr": "UI", "Value": [study]}, "00100020": {"vr": "LO", "Value": ["4711"]}}
        of_series = {"00080060": {"vr": "CS", "Value": [modality]}}
        number = {"00200013": {"vr": "IS", "Value": [int(instance)] if instance.isdigit() else []}}
        return InstanceRecord(
            ref=ref,
            sop_class_uid=sop_class_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            recipe=recipe,
            recipe_digest=sha256(recipe).digest(),
            dataset_digest=sha256(header).digest(),
            own_file_meta=own_file_meta,
            view_recipe=None,
            size=len(recipe),
            frame_table_digest=None,
            number_of_frames=1,
            metadata=zstandard.compress(header),
            study_attributes=study_attributes if study_attributes is not None else of_study,
            series_attributes=series_attributes if series_attributes is not None else of_series,
            instance_attributes=instance_attributes if instance_attributes is not None else number,
            blobs=(
                BlobRow(sha256(header).digest(), len(header), "raw", header),
                BlobRow(sha256(b"pixels" + header).digest(), 2**20, "raw", None),
            ),
            pixel_segment=0,
        )


@pytest.fixture
def record() -> Callable[..., InstanceRecord]:
    return Records()


@pytest.fixture
def source() -> Source:
    return SOURCE
