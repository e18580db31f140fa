"""The start of a file: preamble, file meta information (PS3.10 7.1), and how the data set behind it is encoded."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from dicomhub import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomhub.dicom.elements import LONG_VRS, SHORT_VRS, explicit_head
from dicomhub.errors import NotDicom

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

MAX_FILE_META: Final = 1024**2
"""Bytes; real file meta information has a few hundred."""

_TRANSFER_SYNTAX_UID: Final = 0x00020010
_FIRST_GROUPS: Final = (0x0004, 0x0008)
"""Groups with which a DICOMDIR or a composite instance may begin: both have elements there (PS3.3 C.12.1, F.3)."""


@dataclass(frozen=True, slots=True)
class Prologue:
    """What comes before the data set."""

    dataset_offset: int
    """Bytes before the data set."""
    transfer_syntax_uid: str
    """As in the file meta information, else guessed from the first element."""
    implicit: bool
    """How the data set is in fact encoded, whatever its transfer syntax says."""
    little: bool

    @property
    def is_deflated(self) -> bool:
        """Whether the data set is compressed as a whole (PS3.5 A.5)."""
        return self.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN


def prologue_of(header: bytes, transfer_syntax_uid: str = "") -> Prologue:
    """What comes before the data set of a complete header; see `read_prologue`."""
    prologue = read_prologue(header, transfer_syntax_uid=transfer_syntax_uid)
    assert isinstance(prologue, Prologue)
    return prologue


def read_prologue(data: bytes | bytearray, *, complete: bool = True, transfer_syntax_uid: str = "") -> Prologue | int:
    """Find where the data set begins.

    Parameters
    ----------
    data
        The first bytes of a file, or its header.
    complete
        Whether no more bytes will come.
    transfer_syntax_uid
        Of a data set without file meta information, if it is known.

    Returns
    -------
    Prologue or int
        The number of bytes it takes to say more, if ``data`` has less and is not complete.

    Raises
    ------
    NotDicom
        When no data set begins here.
    """
    if len(data) < 132 and not complete:
        return 132
    pos, uid = _read_meta(data)
    if pos > MAX_FILE_META:
        raise NotDicom(f"file meta information (group 0002) has more than {MAX_FILE_META} bytes")
    if pos > len(data) and complete:
        raise NotDicom("the bytes end inside the file meta information (group 0002)")
    is_deflated = uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    needed = pos + (2 if is_deflated else 8)
    if len(data) < needed and not complete:
        return needed
    if is_deflated:
        return Prologue(pos, uid, implicit=False, little=True)
    return _prologue(data, pos, uid or transfer_syntax_uid)


def _read_meta(data: bytes | bytearray) -> tuple[int, str]:
    """End of the file meta information, beyond the data if that is not there yet, and the Transfer Syntax UID in it.

    The group length only counts where group 0002 could go on by chance: in front of a deflated data set.
    """
    pos = 132 if data[128:132] == b"DICM" else 0
    uid, expected = "", -1
    while data[pos : pos + 2] == b"\x02\x00" and not (uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN and pos == expected):
        begin, stop = _meta_value(data, pos)
        if stop > len(data):
            return stop, uid
        tag = _tag(data, pos)
        if tag == _TRANSFER_SYNTAX_UID:
            uid = data[begin:stop].decode("latin-1").strip(" \0")
        elif tag == 0x00020000 and stop - begin == 4:
            expected = stop + int.from_bytes(data[begin:stop], "little")
        pos = stop
    return pos, uid


def _tag(data: bytes | bytearray, pos: int) -> int:
    group, element = struct.unpack_from("<HH", data, pos)
    return int(group) << 16 | int(element)


def _meta_value(data: bytes | bytearray, pos: int) -> tuple[int, int]:
    """Begin and end of the value of a file meta element; beyond the data while its head is not there."""
    head = bytes(data[pos : pos + 12])
    vr = head[4:6]
    if vr in SHORT_VRS:
        begin, length = pos + 8, head[6:8]
    elif vr in LONG_VRS:
        begin, length = pos + 12, head[8:12]
    else:  # Implicit VR, against PS3.10 7.1
        begin, length = pos + 8, head[4:8]
    if pos + len(head) < begin:
        return begin, begin
    return begin, begin + int.from_bytes(length, "little")


def _prologue(data: bytes | bytearray, pos: int, uid: str) -> Prologue:
    """Look at the first element, which says more than the transfer syntax UID of many a writer."""
    head = bytes(data[pos : pos + 8])
    if len(head) < 8:
        raise NotDicom("there is no data set" if pos else f"{len(data)} bytes are no DICOM file")
    little = uid != EXPLICIT_VR_BIG_ENDIAN
    implicit = uid == IMPLICIT_VR_LITTLE_ENDIAN
    group = int.from_bytes(head[:2], "little")
    swapped = int.from_bytes(head[:2], "big")
    vr = head[4:6]
    if vr in SHORT_VRS or vr in LONG_VRS:
        implicit = False
        if (group if little else swapped) not in _FIRST_GROUPS and (swapped if little else group) in _FIRST_GROUPS:
            little = not little
    elif not uid or not (vr.isalpha() and vr.isupper()):
        implicit = True
    if not pos and not uid:
        _check_first(head, implicit, little)
    return Prologue(pos, uid or _guess(implicit, little), implicit, little)


def _check_first(head: bytes, implicit: bool, little: bool) -> None:
    """Raise NotDicom unless a data set without file meta information may begin with these bytes."""
    group = int.from_bytes(head[:2], "little" if little else "big")
    length = int.from_bytes(head[4:8], "little")
    if group not in _FIRST_GROUPS or (implicit and length > 0xFFFF):
        raise NotDicom("neither a DICM prefix at byte 128 nor a data set at byte 0")


def _guess(implicit: bool, little: bool) -> str:
    if implicit:
        return IMPLICIT_VR_LITTLE_ENDIAN
    return EXPLICIT_VR_LITTLE_ENDIAN if little else EXPLICIT_VR_BIG_ENDIAN


def make_file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and file meta information for a data set without (C-STORE); the same for the same UIDs.

    The UIDs are Affected SOP Class UID, Affected SOP Instance UID and the accepted transfer syntax.
    """
    return _with_preamble(
        bytes(128),
        _element(0x00020001, b"OB", b"\x00\x01")
        + _element(0x00020002, b"UI", _uid(sop_class_uid))
        + _element(0x00020003, b"UI", _uid(sop_instance_uid))
        + _element(_TRANSFER_SYNTAX_UID, b"UI", _uid(transfer_syntax_uid))
        + _element(0x00020012, b"UI", _uid(IMPLEMENTATION_CLASS_UID))
        + _element(0x00020013, b"SH", _padded(IMPLEMENTATION_VERSION_NAME.encode("ascii"), b" ")),
    )


def with_transfer_syntax(header: bytes, transfer_syntax_uid: str) -> bytes:
    """Preamble and file meta information of ``header``, with another Transfer Syntax UID (0002,0010)."""
    return with_uids(header, {_TRANSFER_SYNTAX_UID: transfer_syntax_uid})


def with_uids(header: bytes, uids: Mapping[int, str]) -> bytes:
    """Preamble and file meta information of ``header``, with the UIDs of some tags of group 0002 replaced or added.

    Nothing of a header that has no file meta information.
    """
    meta_offset = 132 if header[128:132] == b"DICM" else 0
    elements = dict(_meta_elements(header, meta_offset))
    if not elements:
        return header[:meta_offset]
    elements.pop(0x00020000, None)
    elements.update({tag: _element(tag, b"UI", _uid(uid)) for tag, uid in uids.items()})
    return _with_preamble(
        header[:128] if meta_offset else bytes(128), b"".join(elements[tag] for tag in sorted(elements))
    )


def _meta_elements(header: bytes, pos: int) -> Iterator[tuple[int, bytes]]:
    while header[pos : pos + 2] == b"\x02\x00":
        _, stop = _meta_value(header, pos)
        yield _tag(header, pos), header[pos:stop]
        pos = stop


def _with_preamble(preamble: bytes, elements: bytes) -> bytes:
    return preamble + b"DICM" + _element(0x00020000, b"UL", len(elements).to_bytes(4, "little")) + elements


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    return explicit_head(tag, vr, len(value)) + value


def _uid(uid: str) -> bytes:
    return _padded(uid.encode("ascii"), b"\0")


def _padded(value: bytes, pad: bytes) -> bytes:
    return value + pad * (len(value) % 2)
