"""Is what was measured also right? Every instance is counted again, frames are compared byte by byte."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from pydicom import dcmread

from conformance.benchmarks.load import LoadFailed
from conformance.servers import Server
from conformance.synthetic import Image, Study

SOP_INSTANCE_UID = "00080018"
DICOM_JSON = "application/dicom+json"
AS_STORED = "multipart/related; type=application/octet-stream; transfer-syntax=*"
FRAMES_COMPARED = 20


def all_stored(server: Server, images: Sequence[Image]) -> None:
    """QIDO-RS lists exactly ``images``, all of one study.

    Raises
    ------
    LoadFailed
        Saying how many are missing or too many.
    """
    path = f"/studies/{images[0].study}/instances?limit={len(images) + 1}"
    found = {item[SOP_INSTANCE_UID]["Value"][0] for item in json.loads(get(server, path, DICOM_JSON))}
    sent = {image.instance for image in images}
    if found != sent:
        raise LoadFailed(
            f"{server.name}: {len(sent - found)} of {len(sent)} instances missing, {len(found - sent)} too many"
        )


def frames_equal(server: Server, study: Study, seed: int) -> None:
    """Frame 1 of some random images is what was sent.

    Raises
    ------
    LoadFailed
        Naming the image that is not.
    """
    for image in random.Random(seed).sample(study.images, min(FRAMES_COMPARED, len(study.images))):
        if only_part(get(server, image.url + "/frames/1", AS_STORED)) != image.frame():
            raise LoadFailed(f"{server.name}: frame 1 of {image.instance} is not what was sent")


def series_listed(server: Server, study: Study) -> None:
    """QIDO-RS of each series lists its images, and no other.

    Raises
    ------
    LoadFailed
        Naming the series that is wrong.
    """
    for series, sent in _by_series(study).items():
        answer = json.loads(get(server, f"/studies/{study.uid}/series/{series}/instances", DICOM_JSON))
        if {item[SOP_INSTANCE_UID]["Value"][0] for item in answer} != {image.instance for image in sent}:
            raise LoadFailed(f"{server.name}: wrong instances in series {series}")


def metadata_complete(server: Server, study: Study) -> None:
    """Metadata of each series has every image with every attribute that its file has (pixels may be left out).

    Raises
    ------
    LoadFailed
        Naming the first image that is not complete.
    """
    for series, sent in _by_series(study).items():
        answer = json.loads(get(server, f"/studies/{study.uid}/series/{series}/metadata", DICOM_JSON))
        items = {item[SOP_INSTANCE_UID]["Value"][0]: item for item in answer}
        for image in sent:
            tags = {f"{element.tag:08X}" for element in dcmread(image.path, stop_before_pixels=True)}
            missing = tags - set(items.get(image.instance, ()))
            if missing:
                raise LoadFailed(f"{server.name}: metadata of {image.instance} lacks {sorted(missing)[:5]}")


def _by_series(study: Study) -> dict[str, list[Image]]:
    return {series: [image for image in study.images if image.series == series] for series in study.series}


def get(server: Server, path: str, accept: str) -> bytes:
    """The body of a 200 response."""
    connection = server.connection()
    try:
        connection.request("GET", server.root + path, headers={"Accept": accept})
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise LoadFailed(f"{server.name}: GET {path}: {response.status} {body[:300]!r}")
    return body


def only_part(body: bytes) -> bytes:
    """Payload of a multipart body with one part."""
    delimiter = b"\r\n" + body[: body.index(b"\r\n")] if body.startswith(b"--") else body[: body.index(b"\r\n", 2)]
    start = body.index(b"\r\n\r\n") + 4
    return body[start : body.rindex(delimiter)]
