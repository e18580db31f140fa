"""The matching criteria of PS3.4 C.2.2.2 as values, and how key attributes are read from text.

Dates, times and date-times are compared as text in a normal form. A bound that is less precise than a value covers all
of it: ``10`` as a time is the hour from 10:00 to 10:59:59.999999. So a first bound is kept without trailing zero parts,
a last bound is kept in full, and plain comparison of text is right for values of any precision (PS3.4 C.2.2.2.5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation

from dicomhub.dicom.model import is_uid
from dicomhub.errors import InvalidQuery


@dataclass(frozen=True, slots=True)
class Universal:
    """Everything matches, absent attributes too (PS3.4 C.2.2.2.3)."""


@dataclass(frozen=True, slots=True)
class SingleValue:
    """One value, equal in meaning (PS3.4 C.2.2.2.1): person names without case and accents, numbers by value."""

    value: str


@dataclass(frozen=True, slots=True)
class UIDList:
    """Any of several values (PS3.4 C.2.2.2.2).

    Also used for other lists where Multiple Value Matching was not asked for, which PS3.4 leaves undefined: who sends
    ``ModalitiesInStudy=CT\\MR`` means either.
    """

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wildcard:
    """``*`` is any text, ``?`` any character (PS3.4 C.2.2.2.4). Case-sensitive, except for person names."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Range:
    """Dates, times, date-times between two bounds, both included (PS3.4 C.2.2.2.5); an empty bound is open."""

    first: str
    last: str


@dataclass(frozen=True, slots=True)
class SequenceMatch:
    """At least one item meets all ``matches`` (PS3.4 C.2.2.2.6)."""

    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class EmptyValue:
    """The attribute is absent or empty (PS3.4 C.2.2.2.7); written ``""``."""


@dataclass(frozen=True, slots=True)
class MultipleValue:
    """Each of the values is among those of the attribute (PS3.4 C.2.2.2.8)."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FuzzyName:
    """Each word begins a word of the person name, in any order and component (PS3.4 C.2.2.2.1.1 leaves it to us)."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CombinedRange:
    """A date with the time in another attribute of the same data set, between two bounds (PS3.4 C.2.2.2.5.4)."""

    time_tag: int
    dates: Range
    times: Range


Criterion = (
    Universal
    | SingleValue
    | UIDList
    | Wildcard
    | Range
    | SequenceMatch
    | EmptyValue
    | MultipleValue
    | FuzzyName
    | CombinedRange
)


@dataclass(frozen=True, slots=True)
class Match:
    """One condition on one attribute.

    Parameters
    ----------
    path
        Tags from the data set down to the attribute; all but the last are sequences, and any item will do.
    vr
        Value representation by PS3.6, ``UN`` when unknown: then that of the stored element decides.
    criterion
        What its value must be.
    creator
        Private creator (PS3.5 7.8.1) of the path's private tags; empty: their block is taken literally.
    """

    path: tuple[int, ...]
    vr: str
    criterion: Criterion
    creator: str = ""


TEXT_VRS = frozenset({"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "UN"})
SINGLE_TEXT_VRS = frozenset({"LT", "ST", "UR", "UT", "UN"})
"""Text whose values may contain a backslash: always one value."""
INTEGER_VRS = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
NUMBER_VRS = INTEGER_VRS | {"DS", "FD", "FL"}
TEMPORAL_VRS = frozenset({"DA", "TM", "DT"})

PATTERN_MAX = 1024
"""Characters of a pattern with wildcards; databases limit them too."""
NUMBER_MAX = 64
"""Characters of a number."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")


def parse_criterion(vr: str, text: str, *, multiple: bool = False) -> Criterion:
    """Read the value of a key attribute (PS3.4 C.2.2.2, PS3.18 8.3.4.1).

    Parameters
    ----------
    vr
        Value representation of the attribute; ``UN`` when it is not known.
    text
        The value as in a C-FIND identifier or a URL, decoded. Several values are separated by backslashes, UIDs and
        codes (CS) also by commas.
    multiple
        Whether Multiple Value Matching was negotiated: then all of several values must be present instead of any.

    Raises
    ------
    InvalidQuery
        When it cannot be a value of the VR, or the VR cannot be matched; the message says what can.
    """
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidQuery("a matching value contains a character that is no text: NUL, or bytes that are not UTF-8")
    text = text.strip(" ")
    if not text.strip("*"):
        return Universal()
    if text == '""':
        return EmptyValue()
    if vr in TEMPORAL_VRS:
        return _parse_temporal(vr, text)
    values = _split(vr, text)
    if not values:
        return Universal()
    for value in values:
        _check(vr, value)
    if vr in TEXT_VRS and any(mark in text for mark in "*?"):
        if len(values) > 1:
            raise InvalidQuery(f"{text[:80]!r} has wildcards in a list of values: ask for one value at a time")
        if len(values[0]) > PATTERN_MAX:
            raise InvalidQuery(f"a value with wildcards is longer than {PATTERN_MAX} characters")
        return Wildcard(values[0])
    if vr == "AT":
        values = tuple(_TAG.sub(r"\1\2", value).upper() for value in values)
    if len(values) == 1:
        return SingleValue(values[0])
    return MultipleValue(values) if multiple and vr != "UI" else UIDList(values)


def fuzzy_name(criterion: Criterion) -> Criterion:
    """The fuzzy form of a criterion on a person name (PS3.18 8.3.4.2); other criteria as they are."""
    if isinstance(criterion, SingleValue):
        text = criterion.value
    elif isinstance(criterion, Wildcard):
        text = criterion.pattern
    else:
        return criterion
    words = tuple(word for word in re.split(r"[ ^=,*?]+", text) if word)
    return FuzzyName(words) if words else Universal()


def _split(vr: str, text: str) -> tuple[str, ...]:
    if vr in SINGLE_TEXT_VRS:
        return (text,)
    separators = r"[\\,]" if vr in ("UI", "CS") else r"\\"
    return tuple(value for part in re.split(separators, text) if (value := part.strip(" ")))


def _check(vr: str, value: str) -> None:
    """Refuse what can never match because it is no value of the VR."""
    if vr == "UI" and not is_uid(value):
        raise InvalidQuery(f"{value[:80]!r} is no UID: digits and dots, at most 64 characters, without wildcards")
    if vr in NUMBER_VRS and not (len(value) <= NUMBER_MAX and _NUMBER.fullmatch(value)):
        raise InvalidQuery(f"{value[:80]!r} is no number")
    if vr == "AT" and not _TAG.fullmatch(value):
        raise InvalidQuery(f"{value[:80]!r} is no tag: write eight hexadecimal digits")
    if vr == "SQ":
        raise InvalidQuery("a sequence is matched by its items: write Sequence.Attribute=value")
    if vr not in TEXT_VRS | NUMBER_VRS | {"UI", "AT"}:
        raise InvalidQuery(f"values of VR {vr} cannot be matched")


def parse_number(value: object) -> Decimal | None:
    """A number of DICOM JSON or of a key, None when it is none or not finite."""
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


# ------------------------------------------------------------------------------------------- dates, times, date-times

_DATE = re.compile(r"(\d{4})\.?(\d\d)\.?(\d\d)", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d|60)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_OFFSET = r"[+-](?:0\d|1[0-4])[0-5]\d"
_DATE_TIME = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:\.(\d{1,6}))?(" + _OFFSET + r")?", re.ASCII)
_DATE_TIME_RANGE = re.compile(r"(\d[\d.]*(?:" + _OFFSET + r")?)?(-)?(\d[\d.]*(?:" + _OFFSET + r")?)?", re.ASCII)
_TRAILING_ZERO_PARTS = re.compile(r"(?:00)+$")


def normalise_date(text: str) -> str:
    """A stored date as it is compared: without the dots of ACR-NEMA (PS3.5 6.2, DA)."""
    return text.replace(".", "")


def normalise_time(text: str) -> str:
    """A stored time as it is compared: without the colons of ACR-NEMA (PS3.5 6.2, TM)."""
    return text.replace(":", "")


def normalise_date_time(text: str) -> str:
    """A stored date-time as it is compared: in UTC; one without an offset is taken to be in UTC already."""
    found = _DATE_TIME.fullmatch(text)
    return (_date_time_bounds(text, found) or (text, text))[0] if found else text


def _parse_temporal(vr: str, text: str) -> Criterion:
    if vr == "DT":
        found = _DATE_TIME_RANGE.fullmatch(text)
        first, hyphen, last = found.groups() if found else (None, None, None)
    else:
        first, hyphen, last = text.partition("-")
    first, last = (first or "").strip(" "), (last or "").strip(" ")
    if not first and not last:
        raise InvalidQuery(_FORMS[vr].format(text[:80]))
    low = _bounds(vr, first) if first else ("", "")
    high = _bounds(vr, last) if last else ("", "")
    if hyphen:
        return Range(low[0], high[1])
    return SingleValue(low[0]) if vr == "DA" else Range(*low)


_FORMS = {
    "DA": "{!r} is no date or range of dates: write YYYYMMDD, YYYYMMDD-YYYYMMDD, YYYYMMDD- or -YYYYMMDD",
    "TM": "{!r} is no time or range of times: write HHMMSS, HHMMSS-HHMMSS, HHMMSS- or -HHMMSS",
    "DT": "{!r} is no date-time or range of date-times: write YYYYMMDDHHMMSS&ZZXX or two of them joined by a hyphen",
}


def _bounds(vr: str, text: str) -> tuple[str, str]:
    """First and last moment that one bound of a range stands for, in the forms that are compared."""
    pattern, bounds = {
        "DA": (_DATE, _date_bounds),
        "TM": (_TIME, _time_bounds),
        "DT": (_DATE_TIME, _date_time_bounds),
    }[vr]
    found = pattern.fullmatch(text)
    result = bounds(text, found) if found else None
    if result is None:
        raise InvalidQuery(_FORMS[vr].format(text[:80]))
    return result


def _date_bounds(text: str, found: re.Match[str]) -> tuple[str, str] | None:
    try:
        date(*map(int, found.groups()))
    except ValueError:
        return None
    return (day := "".join(found.groups())), day


def _time_bounds(text: str, found: re.Match[str]) -> tuple[str, str] | None:
    hour, minute, second, fraction = found.groups()
    first = hour + (minute or "00") + (second or "00")
    last = hour + (minute or "59") + (second or "59") + "." + (fraction or "").ljust(6, "9")
    return _without_zeros(first, fraction, 2), last


def _without_zeros(digits: str, fraction: str | None, keep: int) -> str:
    """Leave out trailing parts that are zero, but not the first ``keep`` digits."""
    significant = (fraction or "").rstrip("0")
    if significant:
        return f"{digits}.{significant}"
    return digits[:keep] + _TRAILING_ZERO_PARTS.sub("", digits[keep:])


def _date_time_bounds(text: str, found: re.Match[str]) -> tuple[str, str] | None:
    *parts, fraction, offset = found.groups()
    given = [part for part in parts if part is not None]
    if fraction is not None and len(given) < 6:
        return None
    year, month, *_ = [int(part) for part in given] + [1] * (6 - len(given))
    try:
        first = _moment(given, ["", "01", "01", "00", "00", "00"], fraction, "0", offset)
        final_day = f"{_days_in_month(year, month if len(given) > 1 else 12):02d}"
        last = _moment(given, ["", "12", final_day, "23", "59", "59"], fraction, "9", offset)
    except (ValueError, OverflowError):
        return None
    return _without_zeros(first[:14], first[15:], 8), last


def _moment(given: list[str], rest: list[str], fraction: str | None, fill: str, offset: str | None) -> str:
    """The moment in UTC as ``YYYYMMDDHHMMSS.FFFFFF``, parts that are not given taken from ``rest``."""
    text = "".join(given + rest[len(given) :])
    leap = text.endswith("60")  # a leap second exists in DICOM (PS3.5 6.2), not in datetime
    moment = datetime.strptime(text[:-2] + "59" if leap else text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    if offset:
        shift = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
        moment = moment - shift if offset[0] == "+" else moment + shift
    return f"{moment:%Y%m%d%H%M%S}".rjust(14, "0") + "." + (fraction or "").ljust(6, fill)


def _days_in_month(year: int, month: int) -> int:
    if month == 12:
        return 31
    return (date(year, month + 1, 1) - date(year, month, 1)).days
