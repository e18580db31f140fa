"""From the attributes of a level (DICOM JSON, PS3.18 F) to the columns that searches match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dicomhub.dicom import matcher
from dicomhub.dicom.criteria import normalise_date, normalise_time
from dicomhub.dicom.names import COMPONENT_GROUPS, normalise_person_name

Attributes = Mapping[str, Any]
"""A DICOM JSON object: ``{"00100020": {"vr": "LO", "Value": ["4711"]}}``."""

Convert = Callable[[Any], Any]


def clean(value: str) -> str | None:
    """Text as both databases take it, without padding (PS3.5 6.2); None when nothing is left."""
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode()  # lone surrogates of broken character sets
    return matcher.clean(value) or None


def text(value: Any) -> str | None:
    """A text value; numbers as JSON may carry for IS and DS become text."""
    return clean(value if isinstance(value, str) else str(value))


def date(value: Any) -> str | None:
    """``YYYYMMDD``; the ACR-NEMA form ``YYYY.MM.DD`` loses its periods (PS3.5 6.2, note to DA)."""
    found = text(value)
    return normalise_date(found) or None if found else None


def time(value: Any) -> str | None:
    """``HHMMSS.FFFFFF`` or a prefix; the ACR-NEMA form ``HH:MM:SS`` loses its colons (PS3.5 6.2, note to TM)."""
    found = text(value)
    return normalise_time(found) or None if found else None


def integer(value: Any) -> int | None:
    """A whole number of at most 64 bits; None for anything else."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if -(2**63) <= number < 2**63 and (isinstance(value, str) or number == value) else None


def _person_name(group: str) -> Convert:
    def convert(value: Any) -> str | None:
        found = value.get(group) if isinstance(value, dict) else None
        cleaned = clean(found) if isinstance(found, str) else None
        return normalise_person_name(cleaned) or None if cleaned else None

    return convert


def _person_names(column: str, tag: str) -> tuple[tuple[str, str, Convert], ...]:
    return tuple((f"{column}_{group.lower()}", tag, _person_name(group)) for group in COMPONENT_GROUPS)


STUDY_COLUMNS: tuple[tuple[str, str, Convert], ...] = (
    ("patient_id", "00100020", text),
    ("issuer_of_patient_id", "00100021", text),
    *_person_names("patient_name", "00100010"),
    ("patient_birth_date", "00100030", date),
    ("patient_birth_time", "00100032", time),
    ("patient_sex", "00100040", text),
    ("study_date", "00080020", date),
    ("study_time", "00080030", time),
    ("accession_number", "00080050", text),
    ("study_id", "00200010", text),
    ("study_description", "00081030", text),
    *_person_names("referring_physician_name", "00080090"),
)
"""Column, tag and conversion, patient and study level."""

SERIES_COLUMNS: tuple[tuple[str, str, Convert], ...] = (
    ("modality", "00080060", text),
    ("series_number", "00200011", integer),
    ("series_date", "00080021", date),
    ("series_time", "00080031", time),
    ("performed_procedure_step_start_date", "00400244", date),
    ("performed_procedure_step_start_time", "00400245", time),
    ("series_description", "0008103E", text),
    ("body_part_examined", "00180015", text),
    ("laterality", "00200060", text),
    ("protocol_name", "00181030", text),
    ("station_name", "00081010", text),
    ("institution_name", "00080080", text),
)
"""The same for the series level."""

INSTANCE_COLUMNS: tuple[tuple[str, str, Convert], ...] = (
    ("instance_number", "00200013", integer),
    ("rows", "00280010", integer),
    ("columns", "00280011", integer),
    ("bits_allocated", "00280100", integer),
    ("content_date", "00080023", date),
    ("content_time", "00080033", time),
)
"""The same for the instance level."""

_REQUEST_ATTRIBUTES = "00400275"
_SCHEDULED_PROCEDURE_STEP_ID = "00400009"
_REQUESTED_PROCEDURE_ID = "00401001"


def study_columns(attributes: Attributes) -> dict[str, Any]:
    """Columns of ``study`` that come from its attributes."""
    return _convert(STUDY_COLUMNS, attributes)


def series_columns(attributes: Attributes) -> dict[str, Any]:
    """Columns of ``series`` that come from its attributes."""
    columns = _convert(SERIES_COLUMNS, attributes)
    requests = attributes.get(_REQUEST_ATTRIBUTES, {}).get("Value") or ()
    columns["scheduled_procedure_step_id"] = _of_items(requests, _SCHEDULED_PROCEDURE_STEP_ID)
    columns["requested_procedure_id"] = _of_items(requests, _REQUESTED_PROCEDURE_ID)
    return columns


def instance_columns(attributes: Attributes) -> dict[str, Any]:
    """Columns of ``version`` that come from its attributes."""
    return _convert(INSTANCE_COLUMNS, attributes)


def several(values: Iterable[str | None]) -> str | None:
    """Sorted distinct values as one column holds them, ``\\A\\B\\``; None for none."""
    found = sorted({value for value in values if value})
    return "\\" + "\\".join(found) + "\\" if found else None


def each(column: str | None) -> list[str]:
    """The values of a column that `several` made."""
    return column.strip("\\").split("\\") if column else []


def merge(old: Attributes, new: Attributes) -> dict[str, Any]:
    """Attributes of a study or series after another instance of it: the newest value that is not empty wins."""
    merged = dict(old)
    for tag, element in new.items():
        if tag not in merged or element.get("Value"):
            merged[tag] = element
    return merged


def _convert(columns: tuple[tuple[str, str, Convert], ...], attributes: Attributes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column, tag, convert in columns:
        values = attributes.get(tag, _NOTHING).get("Value")
        found[column] = convert(values[0]) if values and values[0] is not None else None
    return found


_NOTHING: Mapping[str, Any] = {}


def _of_items(items: Iterable[Any], tag: str) -> str | None:
    return several(
        text(value)
        for item in items
        if isinstance(item, dict)
        for value in item.get(tag, _NOTHING).get("Value") or ()
        if value is not None
    )
