"""Python dicomweb-client, on which highdicom, wsidicom and many scripts stand."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from dicomweb_client import DICOMwebClient
from PIL import Image as PillowImage
from pydicom import Dataset, dcmread

from conformance.suites.subject import Check, Subject
from conformance.synthetic import Study

PROGRAM = "dicomweb-client"


def _client(subject: Subject) -> DICOMwebClient:
    return DICOMwebClient(subject.server.url)


def _study(subject: Subject) -> Study:
    return subject.study("dicomweb-client")


def _first(subject: Subject) -> tuple[str, str, str]:
    image = _study(subject).images[0]
    return image.study, image.series, image.instance


def _uids(items: Sequence[dict[str, dict]], tag: str = "00080018") -> list[str]:  # type: ignore[type-arg]
    return [item[tag]["Value"][0] for item in items]


def store(subject: Subject) -> str:
    images = _study(subject).images
    answer = _client(subject).store_instances([dcmread(image.path) for image in images])
    stored = {item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence}
    assert stored == {image.instance for image in images}, answer
    assert "FailedSOPSequence" not in answer, answer
    return f"{len(stored)} instances, all in Referenced SOP Sequence"


def search(subject: Subject) -> str:
    study, client = _study(subject), _client(subject)
    filters = {"StudyInstanceUID": study.uid, "PatientName": "m*", "StudyDate": "20240101-20241231"}
    found = client.search_for_studies(search_filters=filters, fields=["StudyDescription"], fuzzymatching=False)
    assert _uids(found, "0020000D") == [study.uid], found
    assert sorted(_uids(client.search_for_series(study.uid), "0020000E")) == sorted(study.series)
    assert len(client.search_for_instances(study.uid, study.series[0])) == 3
    return "studies by name, date and UID; series; instances"


def search_pages(subject: Subject) -> str:
    study, client = _study(subject), _client(subject)
    found = client.search_for_instances(study.uid, limit=2, get_remaining=True)
    assert sorted(_uids(found)) == sorted(image.instance for image in study.images)
    return "pages of 2 until the empty one"


def retrieve_instance(subject: Subject) -> str:
    image = _study(subject).images[0]
    retrieved = _client(subject).retrieve_instance(*_first(subject))
    assert retrieved == dcmread(image.path)
    return "data set equal"


def retrieve_series_and_study(subject: Subject) -> str:
    study, client = _study(subject), _client(subject)
    series = client.retrieve_series(study.uid, study.series[0])
    whole = list(client.iter_study(study.uid))
    assert len(series) == 3
    assert {ds.SOPInstanceUID for ds in whole} == {image.instance for image in study.images}
    return "3 and 6 instances"


def metadata(subject: Subject) -> str:
    study, client = _study(subject), _client(subject)
    one = Dataset.from_json(client.retrieve_instance_metadata(*_first(subject)), bulk_data_uri_handler=lambda _: b"")
    sent = dcmread(study.images[0].path, stop_before_pixels=True)
    different = [str(element.tag) for element in sent if one.get(element.tag) != element]
    assert not different, different
    assert len(client.retrieve_series_metadata(study.uid, study.series[0])) == 3
    assert len(client.retrieve_study_metadata(study.uid)) == 6
    return f"{len(sent)} attributes equal"


def frames(subject: Subject) -> str:
    wanted = _study(subject).images[0].frame()
    got = _client(subject).retrieve_instance_frames(*_first(subject), frame_numbers=[1])
    assert got == [wanted]
    return "bytes equal"


def bulkdata(subject: Subject) -> str:
    client = _client(subject)
    uri = client.retrieve_instance_metadata(*_first(subject))["7FE00010"]["BulkDataURI"]
    assert client.retrieve_bulkdata(uri) == [_study(subject).images[0].frame()]
    return "Pixel Data by its BulkDataURI, bytes equal"


def rendered(subject: Subject) -> str:
    client = _client(subject)
    sizes = []
    for media_type in ("image/png", "image/jpeg"):
        image = PillowImage.open(
            io.BytesIO(client.retrieve_instance_rendered(*_first(subject), media_types=(media_type,)))
        )
        assert np.asarray(image).std() > 0, "the image is blank"
        sizes.append(f"{image.format} {image.width}x{image.height}")
    assert sizes == ["PNG 64x64", "JPEG 64x64"], sizes
    client.retrieve_instance_frames_rendered(*_first(subject), frame_numbers=[1], media_types=("image/png",))
    return ", ".join(sizes)


CHECKS = (
    Check(PROGRAM, "store", store),
    Check(PROGRAM, "search", search),
    Check(PROGRAM, "search, page by page", search_pages),
    Check(PROGRAM, "retrieve instance", retrieve_instance),
    Check(PROGRAM, "retrieve series, study", retrieve_series_and_study),
    Check(PROGRAM, "metadata", metadata),
    Check(PROGRAM, "frames", frames),
    Check(PROGRAM, "bulk data", bulkdata),
    Check(PROGRAM, "rendered", rendered),
)
