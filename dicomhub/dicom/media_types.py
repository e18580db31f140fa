"""Which representation a request gets: Accept parsed, and the choice as one pure function (PS3.18 8.7).

The choice follows RFC 9110 12.5.1: every representation that we can make is given the quality of the most specific
member of the list that matches it, and the best quality wins. Nothing depends on the order of the list, and members
that we cannot satisfy are skipped, because browsers concatenate lists. What the standard adds is in `_matches`:

* no ``transfer-syntax`` parameter asks for Explicit VR Little Endian; video stays what it is (PS3.18 8.7.3.3);
* ``transfer-syntax=*`` and wildcard types accept any, so the stored form goes out untouched;
* an image type such as ``image/jpeg`` without parameter takes any transfer syntax of that type: nothing is encoded
  anew just to reach the type's default;
* a missing header accepts everything (RFC 9110), although PS3.18 8.7.5 would let us answer 406: real clients omit it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from dicomhub.dicom.file_meta import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from dicomhub.errors import BadRequest, NotAcceptable

NATIVE = frozenset(
    {
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
    }
)
"""Transfer syntaxes whose pixel data is not encapsulated (PS3.5 A.1, A.2, A.3, A.5)."""

_JPEG = "1.2.840.10008.1.2.4."

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    dict.fromkeys((_JPEG + n for n in ("50", "51", "57", "70")), "image/jpeg")
    | {"1.2.840.10008.1.2.5": "image/dicom-rle"}
    | dict.fromkeys((_JPEG + n for n in ("80", "81")), "image/jls")
    | dict.fromkeys((_JPEG + n for n in ("90", "91")), "image/jp2")
    | dict.fromkeys((_JPEG + n for n in ("92", "93")), "image/jpx")
    | dict.fromkeys((_JPEG + n for n in ("201", "202", "203")), "image/jphc")
    | dict.fromkeys((_JPEG + n for n in ("110", "111", "112")), "image/jxl")
    | dict.fromkeys((_JPEG + n for n in ("100", "100.1", "101", "101.1")), "video/mpeg")
    | dict.fromkeys((_JPEG + n for n in ("102", "103", "104", "105", "106", "107", "108")), "video/mp4")
    | dict.fromkeys((_JPEG + n + ".1" for n in ("102", "103", "104", "105", "106")), "video/mp4")
)
"""Media type of one frame (or video) of each encapsulated transfer syntax (PS3.18 Tables 8.7.3-4 and 8.7.3-5)."""

DECODABLE = frozenset(
    {uid for uid, media_type in MEDIA_TYPES.items() if media_type.startswith("image/")}
    | {"1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.8.1"}  # encapsulated uncompressed, deflated image frame
)
"""Encapsulated transfer syntaxes that `dicomhub.dicom.transcode` turns into native pixel data."""

OCTET_STREAM = "application/octet-stream"
DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
RENDERED_IMAGES = ("image/jpeg", "image/png", "image/gif")
"""Rendered media types that we make, best first (PS3.18 Table 8.7.4-1)."""

_RENDERED_ONLY = re.compile(r"image/(?:jpeg|gif|png|jp2|jph|jxl)|video/.+|text/(?:html|plain|rtf)|application/pdf")
_MAX_MEMBERS = 64
"""Members of an Accept list that are looked at; browsers send fewer than ten."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type or range with its parameters, as in RFC 9110 8.3.1; names in lower case, values unquoted."""

    type: str
    subtype: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def essence(self) -> str:
        """Type and subtype, without parameters."""
        return f"{self.type}/{self.subtype}"

    def __str__(self) -> str:
        return "; ".join([self.essence, *(f'{name}="{value}"' for name, value in self.parameters.items())])


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an Accept list, brought to the terms of DICOMweb."""

    essence: str
    """Type of the payload: the ``type`` parameter of a multipart range, or the range itself; may be a wildcard."""
    is_multipart: bool | None
    """Whether it asks for a multipart or a single-part body; None for ``*/*``, which takes either."""
    transfer_syntax_uid: str
    """UID, ``*``, or empty when not given."""
    quality: float


Accept = tuple[Member, ...]
"""A parsed Accept list; empty accepts everything."""


@dataclass(frozen=True, slots=True)
class Representation:
    """One form in which a resource can be sent."""

    media_type: str
    """Type of the payload, or of each part."""
    transfer_syntax_uid: str = ""
    """Transfer syntax of the payload; empty where there is none (JSON, PNG, PDF)."""
    is_multipart: bool = False
    is_decoded: bool = False
    """Made by decoding the pixel data or encoding the data set anew; False: the stored values go out as they are."""

    @property
    def content_type(self) -> str:
        """``Content-Type`` of the payload."""
        if not self.transfer_syntax_uid:
            return self.media_type
        return f"{self.media_type}; transfer-syntax={self.transfer_syntax_uid}"


# --------------------------------------------------------------------------------------------------------------- parse


def parse_media_type(text: str) -> MediaType:
    """Parse one media type; quotes, blanks and letter case are taken as they come (unquoted ``type=a/b`` too)."""
    first, *rest = _split(text, ";")
    type_, _, subtype = first.strip().lower().partition("/")
    parameters: dict[str, str] = {}
    for item in rest:
        name, _, value = item.partition("=")
        if name := name.strip().lower():
            parameters.setdefault(name, _unquote(value.strip()))
    # A plus sign in a query parameter arrives as a blank: accept=application/dicom+json.
    return MediaType(type_ or "*", subtype.replace(" ", "+") or "*", parameters)


@lru_cache(maxsize=512)
def parse_accept(header: str | None, query: str | None = None) -> Accept:
    """Parse the acceptable media types of a request (PS3.18 8.3.3.1, 8.7.5).

    Parameters
    ----------
    header
        The ``Accept`` field, several joined by commas; None when absent.
    query
        The ``accept`` query parameter. It replaces the header: a link cannot set one, the browser sends its own.
    """
    text = query or header or ""
    members = [m for item in _split(text, ",")[:_MAX_MEMBERS] if (m := _member(item.strip())) is not None]
    return tuple(members)


def _member(text: str) -> Member | None:
    if not text:
        return None
    media_type = parse_media_type(text)
    quality = _quality(media_type.parameters.get("q", "1"))
    transfer_syntax = media_type.parameters.get("transfer-syntax", "")
    if media_type.type == "multipart":
        essence = parse_media_type(media_type.parameters.get("type", "*/*")).essence
        return Member(essence, True, transfer_syntax, quality)
    return Member(media_type.essence, None if media_type.type == "*" else False, transfer_syntax, quality)


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 1.0


def _split(text: str, separator: str) -> list[str]:
    """Split outside quoted strings."""
    if '"' not in text:
        return text.split(separator)
    parts, start, quoted, escaped = [], 0, False, False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\" and quoted:
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value.strip('"')


# -------------------------------------------------------------------------------------------------------------- choose


@lru_cache(maxsize=1024)
def choose_instances(accept: Accept, transfer_syntax_uid: str, *, single: bool) -> Representation:
    """How an instance of a retrieve is sent (PS3.18 10.4.1.1.1).

    Parameters
    ----------
    transfer_syntax_uid
        Of the instance as stored.
    single
        Whether the target is one instance, so that a body that is not multipart can hold it.

    Raises
    ------
    NotAcceptable
        When no form is acceptable.
    BadRequest
        When DICOM and rendered types are mixed (PS3.18 8.7.5).
    """
    _refuse_mixture(accept)
    forms = [Representation(DICOM, transfer_syntax_uid, multi) for multi in _bodies(single)]
    if transfer_syntax_uid != EXPLICIT_VR_LITTLE_ENDIAN and transfer_syntax_uid in NATIVE | DECODABLE:
        forms += [Representation(DICOM, EXPLICIT_VR_LITTLE_ENDIAN, m, is_decoded=True) for m in _bodies(single)]
    return _choose(accept, forms)


@lru_cache(maxsize=1024)
def choose_frames(accept: Accept, transfer_syntax_uid: str, *, single: bool) -> Representation:
    """How frames are sent (PS3.18 10.4.1.1.6): as stored under the type of their compression, or native little endian.

    Native frames are always sent in little endian (PS3.18 8.7.3.3.2), whatever the byte order of the stored data set.
    """
    is_native = transfer_syntax_uid in NATIVE
    native = [
        Representation(OCTET_STREAM, EXPLICIT_VR_LITTLE_ENDIAN, multi, is_decoded=not is_native)
        for multi in _bodies(single)
    ]
    if is_native:
        return _choose(accept, native)
    media_type = MEDIA_TYPES.get(transfer_syntax_uid, OCTET_STREAM)
    forms = [Representation(media_type, transfer_syntax_uid, multi) for multi in _bodies(single)]
    return _choose(accept, forms + native if transfer_syntax_uid in DECODABLE else forms)


@lru_cache(maxsize=1024)
def choose_bulkdata(accept: Accept, media_type: str = "") -> Representation:
    """How a bulk value that is not pixel data is sent (PS3.18 10.4.1.1.5).

    Parameters
    ----------
    media_type
        What the instance says its value is: MIME Type of Encapsulated Document (0042,0012), ``application/pdf``.
    """
    types = [media_type.lower(), OCTET_STREAM] if media_type else [OCTET_STREAM]
    return _choose(accept, [Representation(type_, "", multi) for type_ in types for multi in _bodies(True)])


@lru_cache(maxsize=256)
def choose_metadata(accept: Accept) -> Representation:
    """How metadata is sent (PS3.18 10.4.1.1.2): DICOM JSON, also under its plain name ``application/json``."""
    _refuse_mixture(accept)
    return _choose(accept, [Representation(DICOM_JSON), Representation("application/json")])


@lru_cache(maxsize=256)
def choose_rendered(accept: Accept) -> Representation:
    """How a rendered image is sent (PS3.18 10.4.1.1.3): JPEG by default."""
    _refuse_mixture(accept)
    return _choose(accept, [Representation(media_type) for media_type in RENDERED_IMAGES])


def _bodies(single: bool) -> tuple[bool, ...]:
    """``is_multipart`` of the possible bodies, preferred first."""
    return (True, False) if single else (True,)


def _refuse_mixture(accept: Accept) -> None:
    """PS3.18 8.7.5: a list names DICOM media types or rendered ones, never both."""
    is_dicom = any(m.essence.startswith(DICOM) for m in accept)
    if is_dicom and any(not m.is_multipart and _RENDERED_ONLY.fullmatch(m.essence) for m in accept):
        raise BadRequest("Accept mixes DICOM and rendered media types: ask for one kind (PS3.18 8.7.5)")


def _choose(accept: Accept, forms: Sequence[Representation]) -> Representation:
    """The best form; among equals the stored one before the transcoded one, then the order of ``forms``."""
    if not accept:
        return forms[0]
    best = max(range(len(forms)), key=lambda i: (_form_quality(accept, forms[i]), not forms[i].is_decoded, -i))
    if _form_quality(accept, forms[best]) > 0:
        return forms[best]
    offered = ", ".join(_offer(form) for form in forms)
    raise NotAcceptable(f"Nothing acceptable; this resource is available as: {offered}")


def _form_quality(accept: Accept, form: Representation) -> float:
    """Quality of the most specific member that matches; 0 when none does (RFC 9110 12.5.1)."""
    matching = [(_specificity(member), member.quality) for member in accept if _matches(member, form)]
    return max(matching)[1] if matching else 0.0


def _specificity(member: Member) -> tuple[int, int, int]:
    wildcards = member.essence.split("/").count("*")
    return (member.is_multipart is not None, -wildcards, len(member.transfer_syntax_uid))


def _matches(member: Member, form: Representation) -> bool:
    if member.is_multipart not in (None, form.is_multipart):
        return False
    asked = member.transfer_syntax_uid
    if member.essence in ("*/*", f"{form.media_type.partition('/')[0]}/*"):
        # A wildcard accepts the bytes that are there; it is no reason to transcode them.
        return not form.is_decoded if not asked else _syntax_matches(asked, form)
    if member.essence == form.media_type:
        return _syntax_matches(asked, form) if asked else _is_default(form)
    # Compressed frames as octets: only for who says that any or this transfer syntax is welcome (OHIF does).
    is_image = form.media_type in MEDIA_TYPES.values() and bool(form.transfer_syntax_uid)
    return member.essence == OCTET_STREAM and is_image and bool(asked) and _syntax_matches(asked, form)


def _syntax_matches(asked: str, form: Representation) -> bool:
    return not form.transfer_syntax_uid or asked in ("*", form.transfer_syntax_uid)


def _is_default(form: Representation) -> bool:
    """Whether the form is what a type without ``transfer-syntax`` parameter asks for."""
    if form.media_type not in (DICOM, OCTET_STREAM) or not form.transfer_syntax_uid:
        return True
    is_video = MEDIA_TYPES.get(form.transfer_syntax_uid, "").startswith("video/")
    return form.transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN or is_video


def _offer(form: Representation) -> str:
    if not form.is_multipart:
        return form.content_type
    syntax = f"; transfer-syntax={form.transfer_syntax_uid}" if form.transfer_syntax_uid else ""
    return f'multipart/related; type="{form.media_type}"{syntax}'
