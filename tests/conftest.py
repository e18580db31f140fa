"""Fixtures that all tests share: a real archive on SQLite and a folder, a web client, instances made to order."""

from __future__ import annotations

import io
import logging
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicomhub.app import open_archive
from dicomhub.archive import Archive
from dicomhub.config import Config
from dicomhub.hooks import Hooks
from dicomhub.web import make_app

pytest_plugins = ["tests.fixtures_postgres", "tests.fixtures_s3"]

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real DICOM files beside the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the folder of real DICOM files is missing: {folder}")
    return folder


@pytest.fixture
def quiet() -> Iterator[None]:
    """No warnings and no log: pydicom has something to say about nearly every real file."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def make_instance_bytes(**attributes: Any) -> bytes:
    """A small CT image as Part 10 bytes; attributes by keyword override or (None) remove.

    ``rows``, ``columns`` and ``frames`` shape the pixel data, ``pixels`` gives its bytes, ``transfer_syntax`` its
    encoding (native ones only).
    """
    rows, columns = attributes.pop("rows", 8), attributes.pop("columns", 8)
    frames, pixels = attributes.pop("frames", 1), attributes.pop("pixels", None)
    syntax = attributes.pop("transfer_syntax", ExplicitVRLittleEndian)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CT_IMAGE_STORAGE
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = "1.2.3.4"
    ds.SeriesInstanceUID = "1.2.3.4.5"
    ds.StudyDate, ds.StudyTime = "20240131", "120000"
    ds.Modality = "CT"
    ds.PatientName, ds.PatientID = "Doe^Jane", "P1"
    ds.PatientBirthDate, ds.PatientSex = "19700101", "F"
    ds.AccessionNumber, ds.StudyID, ds.StudyDescription = "A1", "1", "Thorax"
    ds.ReferringPhysicianName = "Roe^Richard"
    ds.SeriesNumber, ds.InstanceNumber, ds.SeriesDescription = 1, 1, "axial"
    ds.Rows, ds.Columns, ds.NumberOfFrames = rows, columns, frames
    if frames == 1:
        del ds.NumberOfFrames
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.WindowCenter, ds.WindowWidth = 40, 400
    if pixels is None:
        pixels = np.arange(rows * columns * frames, dtype="<u2").tobytes()
    ds.PixelData = pixels
    ds["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CT_IMAGE_STORAGE)
    meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2.3")
    meta.TransferSyntaxUID = syntax
    ds.file_meta = meta
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def make_instance() -> Callable[..., bytes]:
    """See `make_instance_bytes`."""
    return make_instance_bytes


def staged_files(data_dir: Path) -> list[Path]:
    """What is on its way in (`dicomhub.store.staging`), without the locks."""
    return [path for path in data_dir.rglob("staging/*/*") if path.is_file() and path.name != "lock"]


@pytest.fixture
def backend() -> str:
    """``embedded`` (SQLite and a folder) or ``cluster`` (PostgreSQL and S3); parametrise it to run tests on both."""
    return "embedded"


@pytest.fixture
def config(tmp_path: Path, backend: str, request: pytest.FixtureRequest) -> Config:
    """A configuration of its own for each test, on free ports."""
    settings = {"data_dir": tmp_path / "data", "http_port": 0, "dimse_port": 0}
    if backend == "cluster":
        server = request.getfixturevalue("s3_credentials")
        settings |= {
            "database_url": request.getfixturevalue("postgresql_url"),
            "storage_url": f"s3://archive/{uuid.uuid4().hex}",
            "s3_endpoint_url": server.endpoint_url,
        }
    return Config(**settings)


@pytest.fixture
def hooks() -> Hooks:
    """No plugins; override to test with some."""
    return Hooks()


@pytest.fixture
async def archive(config: Config, hooks: Hooks) -> AsyncIterator[Archive]:
    """A real archive: SQLite and a folder."""
    async with open_archive(config, hooks) as opened:
        yield opened


@pytest.fixture
async def client(archive: Archive) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """A client of a real web server over `archive`."""
    async with TestClient(TestServer(make_app(archive))) as opened:
        yield opened


Store = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def store(client: TestClient[web.Request, web.Application]) -> Store:
    """``await store(*part10)``: STOW; returns the response's DICOM JSON and fails unless all were stored."""

    async def stow(*instances: bytes, status: int = 200) -> dict[str, Any]:
        boundary = "tests-boundary"
        body = b"".join(
            b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n" % (boundary.encode(), instance)
            for instance in instances
        )
        headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}'}
        response = await client.post("/dicom-web/studies", data=body + f"--{boundary}--".encode(), headers=headers)
        assert response.status == status, await response.text()
        result: dict[str, Any] = await response.json(content_type="application/dicom+json")
        return result

    return stow
