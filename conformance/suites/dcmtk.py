"""DCMTK (Debian package dcmtk): the tools that most sites test with."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file

from conformance.servers import HOST
from conformance.suites.subject import Check, Subject, run_program

COMPRESSED = (
    "MR_small_RLE.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "JPGExtended.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "examples_ybr_color.dcm",
    "image_dfl.dcm",
    "ExplVR_BigEnd.dcm",
)
"""Files in pydicom's package: RLE, JPEG, JPEG Lossless, JPEG 2000, JPEG-LS, JPEG multi-frame, deflated, big endian."""


def _peer(subject: Subject) -> tuple[str, ...]:
    return ("-aec", subject.server.ae_title, HOST, str(subject.server.dimse_port))


def echo(subject: Subject) -> str:
    run_program("echoscu", *_peer(subject))
    return "success"


def store_uncompressed(subject: Subject) -> str:
    study = subject.study("dcmtk")
    run_program("storescu", *_peer(subject), *(str(image.path) for image in study.images))
    assert subject.instances_of(study.uid) == sorted(image.instance for image in study.images)
    return f"{len(study.images)} CT images, listed by QIDO-RS"


def store_folder(subject: Subject) -> str:
    folder = subject.folder / "compressed"
    folder.mkdir()
    for name in COMPRESSED:
        shutil.copy(_test_file(name), folder)
    output = run_program("dcmsend", "-v", "+sd", "+r", *_peer(subject), str(folder))
    listed = {item["00080018"]["Value"][0] for item in subject.get_json("/instances?limit=1000")}
    files = [dcmread(path, stop_before_pixels=True) for path in folder.iterdir()]
    sent = {str(file.SOPInstanceUID) for file in files}
    syntaxes = {file.file_meta.TransferSyntaxUID for file in files}
    assert sent <= listed, f"{len(sent - listed)} not listed: {output[-300:]}"
    return f"{len(COMPRESSED)} files of {len(syntaxes)} transfer syntaxes, listed by QIDO-RS"


def _test_file(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert path is not None, f"pydicom does not have {name}"
    return Path(str(path))


def store_same_again(subject: Subject) -> str:
    store_uncompressed(subject)
    return "success, nothing doubled"


def _find(subject: Subject, model: str, *keys: str) -> int:
    """Pending responses to a C-FIND."""
    arguments = [argument for key in keys for argument in ("-k", key)]
    output = run_program("findscu", "-v", model, *_peer(subject), *arguments)
    return len(re.findall(r"Find Response: ?\d* ?\(?Pending\)?|Received Find Response \d+|\(Pending\)", output))


def find_studies(subject: Subject) -> str:
    uid = subject.study("dcmtk").uid
    by_uid = _find(subject, "-S", "QueryRetrieveLevel=STUDY", f"StudyInstanceUID={uid}", "PatientName")
    by_name = _find(subject, "-S", "QueryRetrieveLevel=STUDY", "PatientName=M*", f"StudyInstanceUID={uid}")
    none = _find(subject, "-S", "QueryRetrieveLevel=STUDY", "PatientName=NOBODY", f"StudyInstanceUID={uid}")
    assert (by_uid, by_name, none) == (1, 1, 0), (by_uid, by_name, none)
    return "by UID, by wildcard; none where none matches"


def find_series_and_images(subject: Subject) -> str:
    study = subject.study("dcmtk")
    series = _find(subject, "-S", "QueryRetrieveLevel=SERIES", f"StudyInstanceUID={study.uid}", "SeriesInstanceUID")
    keys = (f"StudyInstanceUID={study.uid}", f"SeriesInstanceUID={study.series[0]}", "SOPInstanceUID", "InstanceNumber")
    images = _find(subject, "-S", "QueryRetrieveLevel=IMAGE", *keys)
    assert (series, images) == (2, 3), (series, images)
    return "2 series, 3 images"


def find_patient_root(subject: Subject) -> str:
    patient = dcmread(subject.study("dcmtk").images[0].path, stop_before_pixels=True).PatientID
    found = _find(subject, "-P", "QueryRetrieveLevel=PATIENT", f"PatientID={patient}", "PatientName")
    assert found == 1, found
    return "1 patient"


CHECKS = (
    Check("echoscu", "C-ECHO", echo),
    Check("storescu", "C-STORE", store_uncompressed),
    Check("storescu", "C-STORE, the same again", store_same_again),
    Check("dcmsend", "C-STORE, compressed files of a folder", store_folder),
    Check("findscu", "C-FIND study root, STUDY", find_studies),
    Check("findscu", "C-FIND study root, SERIES and IMAGE", find_series_and_images),
    Check("findscu", "C-FIND patient root, PATIENT", find_patient_root),
)
