"""curl: what scripts and people in a terminal send."""

from __future__ import annotations

import json
from pathlib import Path

from conformance.suites.subject import Check, Subject, run_program
from conformance.synthetic import Study

PROGRAM = "curl"


def _study(subject: Subject) -> Study:
    return subject.study("curl")


def _curl(*arguments: str) -> tuple[int, bytes, str]:
    """Status, body and Content-Type."""
    separator = "\n-- "
    target = Path(arguments[0])
    output = run_program(
        "curl",
        "-sS",
        "--max-time",
        "30",
        "-o",
        str(target),
        "-w",
        f"%{{http_code}}{separator}%{{content_type}}",
        *arguments[1:],
    )
    status, _, content_type = output.partition(separator)
    return int(status), target.read_bytes(), content_type


def _answer(subject: Subject) -> str:
    target = subject.folder / "curl-answer"
    target.write_bytes(b"")
    return str(target)


def store_single_part(subject: Subject) -> str:
    image = _study(subject).images[0]
    status, body, content_type = _curl(
        _answer(subject), "-H", "Content-Type: application/dicom", "-H", "Accept: application/dicom+json",
        "--data-binary", f"@{image.path}", subject.server.url + "/studies",
    )  # fmt: skip
    assert status == 200, (status, body)
    assert content_type == "application/dicom+json", content_type
    assert json.loads(body)["00081199"]["Value"][0]["00081155"]["Value"] == [image.instance]
    return "200, listed"


def store_multipart(subject: Subject) -> str:
    images = _study(subject).images
    opening = b"--curl\r\nContent-Type: application/dicom\r\n\r\n"
    request = subject.folder / "curl-request"
    request.write_bytes(b"".join(opening + each.path.read_bytes() + b"\r\n" for each in images) + b"--curl--\r\n")
    status, body, _ = _curl(
        _answer(subject), "-H", 'Content-Type: multipart/related; type="application/dicom"; boundary=curl',
        "-H", "Expect:", "--data-binary", f"@{request}", f"{subject.server.url}/studies/{images[0].study}",
    )  # fmt: skip
    assert status == 200, (status, body)
    assert subject.instances_of(images[0].study) == sorted(each.instance for each in images)
    return f"{len(images)} instances, listed by QIDO-RS"


def store_no_dicom(subject: Subject) -> str:
    status, _, _ = _curl(
        _answer(subject),
        "-H",
        "Content-Type: application/dicom",
        "--data-binary",
        "no DICOM",
        subject.server.url + "/studies",
    )
    assert status == 409, status
    return "409"


def search(subject: Subject) -> str:
    uid = _study(subject).uid
    status, body, content_type = _curl(_answer(subject), f"{subject.server.url}/studies?StudyInstanceUID={uid}")
    assert (status, content_type) == (200, "application/dicom+json"), (status, content_type)
    assert json.loads(body)[0]["0020000D"]["Value"] == [uid]
    return "200, JSON without an Accept header"


def retrieve(subject: Subject) -> str:
    image = _study(subject).images[0]
    as_stored = ("-H", "Accept: application/dicom; transfer-syntax=*")
    status, body, content_type = _curl(_answer(subject), *as_stored, subject.server.url + image.url)
    assert (status, body) == (200, image.path.read_bytes()), (status, len(body))
    assert content_type.startswith("application/dicom"), content_type
    status, body, _ = _curl(_answer(subject), f"{subject.server.url}{image.url}?accept=application/dicom")
    assert (status, body) == (200, image.path.read_bytes()), (status, len(body))
    return "file equal, by header and by ?accept="


def rendered(subject: Subject) -> str:
    image = _study(subject).images[0]
    status, body, content_type = _curl(
        _answer(subject), "-H", "Accept: image/png", f"{subject.server.url}{image.url}/rendered"
    )
    assert (status, content_type) == (200, "image/png"), (status, content_type)
    assert body.startswith(b"\x89PNG")
    return "PNG"


def errors(subject: Subject) -> str:
    study = f"{subject.server.url}/studies/1.2.3.999"
    seen = {
        404: _curl(_answer(subject), study + "/metadata")[0],
        406: _curl(_answer(subject), "-H", "Accept: text/css", subject.server.url + _study(subject).images[0].url)[0],
        405: _curl(_answer(subject), "-X", "DELETE", study)[0],
        415: _curl(_answer(subject), "-H", "Content-Type: text/plain", "-d", "x", subject.server.url + "/studies")[0],
    }
    assert all(wanted == status for wanted, status in seen.items()), seen
    return "404, 405, 406, 415 where they belong"


CHECKS = (
    Check(PROGRAM, "store, single part", store_single_part),
    Check(PROGRAM, "store, multipart", store_multipart),
    Check(PROGRAM, "store, no DICOM", store_no_dicom),
    Check(PROGRAM, "search", search),
    Check(PROGRAM, "retrieve instance", retrieve),
    Check(PROGRAM, "rendered", rendered),
    Check(PROGRAM, "errors", errors),
)
