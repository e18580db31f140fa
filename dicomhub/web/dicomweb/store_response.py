"""The Store Instances Response Module (PS3.18 10.5.3 and Annex I)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from dicomhub.archive.ingest import Receipt
from dicomhub.dicom.model import InstanceRef
from dicomhub.errors import DicomHubError, OutOfResources, Unavailable
from dicomhub.web.errors import RETRY_AFTER_S
from dicomhub.web.urls import instance_url


@dataclass(frozen=True, slots=True)
class Failure:
    """An instance that was not stored; ``ref`` is None where its UIDs could not be read.

    The error is kept without its traceback, whose frames hold the instance: a request may have very many failures.
    """

    error: DicomHubError
    ref: InstanceRef | None = None
    sop_class_uid: str = ""

    def __post_init__(self) -> None:
        self.error.__traceback__ = self.error.__cause__ = self.error.__context__ = None

    @property
    def reason(self) -> int:
        """Failure Reason (0008,1197)."""
        return self.error.dimse_status


@dataclass
class Outcome:
    """What became of the instances of one request."""

    receipts: list[Receipt] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def response(outcome: Outcome, base_url: str) -> web.Response:
    """Status and body for what was and was not stored.

    Status (PS3.18 Table 10.5.3-1): 200 all stored, 202 some failed or were changed, 409 none stored, 503 none stored
    for want of resources. The type is exactly ``application/dicom+json``: clients compare it by equality.
    """
    headers = {}
    code = status(outcome)
    if code == OutOfResources.http_status:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if outcome.failures:
        text = outcome.failures[0].error.message.replace("\\", "'").replace('"', "'")
        headers["Warning"] = f'299 dicomhub "{_ascii(text)}"'
    return web.Response(
        status=code,
        body=orjson.dumps(dataset(outcome, base_url)),
        content_type="application/dicom+json",
        headers=headers,
    )


def status(outcome: Outcome) -> int:
    """HTTP status of a store response."""
    if not outcome.failures:
        return 202 if any(receipt.status for receipt in outcome.receipts) else 200
    if outcome.receipts:
        return 202
    unavailable = all(isinstance(failure.error, Unavailable) for failure in outcome.failures)
    internal = all(failure.error.http_status == 500 for failure in outcome.failures)
    if unavailable:
        return OutOfResources.http_status
    return 500 if internal else 409


def dataset(outcome: Outcome, base_url: str) -> dict[str, Any]:
    """DICOM JSON of the response; sequences without items are absent (dcm4che's client needs that)."""
    result: dict[str, Any] = {}
    studies = {receipt.ref.study for receipt in outcome.receipts}
    if len(studies) == 1:
        result["00081190"] = _element("UR", f"{base_url}/studies/{studies.pop()}")
    identified = [failure for failure in outcome.failures if failure.ref is not None]
    others = [failure for failure in outcome.failures if failure.ref is None]
    if identified:
        result["00081198"] = {"vr": "SQ", "Value": [_failed(failure) for failure in identified]}
    if outcome.receipts:
        result["00081199"] = {"vr": "SQ", "Value": [_stored(receipt, base_url) for receipt in outcome.receipts]}
    if others:
        items = [{"00081197": _element("US", failure.reason)} for failure in others]
        result["0008119A"] = {"vr": "SQ", "Value": items}
    return result


def _stored(receipt: Receipt, base_url: str) -> dict[str, Any]:
    item = {
        "00081150": _element("UI", receipt.sop_class_uid),
        "00081155": _element("UI", receipt.ref.instance),
        "00081190": _element("UR", instance_url(base_url, receipt.ref)),
    }
    if receipt.status:
        item["00081196"] = _element("US", receipt.status)
    return item


def _failed(failure: Failure) -> dict[str, Any]:
    assert failure.ref is not None
    return {
        "00081150": _element("UI", failure.sop_class_uid),
        "00081155": _element("UI", failure.ref.instance),
        "00081197": _element("US", failure.reason),
    }


def _element(vr: str, value: object) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")
