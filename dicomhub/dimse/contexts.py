"""What we accept in association negotiation: abstract syntaxes and transfer syntaxes, as tables.

The conformance statement is generated from the same tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # names are made at import time there
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

VERIFICATION = UID(Verification)
PATIENT_ROOT_FIND = UID(PatientRootQueryRetrieveInformationModelFind)
STUDY_ROOT_FIND = UID(StudyRootQueryRetrieveInformationModelFind)

RETIRED_STORAGE_SOP_CLASSES: tuple[UID, ...] = tuple(
    UID(uid)
    for uid in (
        "1.2.840.10008.5.1.1.27",  # Stored Print
        "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image
        "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image
        "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame Image
        "1.2.840.10008.5.1.4.1.1.5",  # Nuclear Medicine Image
        "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound Image
        "1.2.840.10008.5.1.4.1.1.8",  # Standalone Overlay
        "1.2.840.10008.5.1.4.1.1.9",  # Standalone Curve
        "1.2.840.10008.5.1.4.1.1.9.1",  # Waveform - Trial
        "1.2.840.10008.5.1.4.1.1.10",  # Standalone Modality LUT
        "1.2.840.10008.5.1.4.1.1.11",  # Standalone VOI LUT
        "1.2.840.10008.5.1.4.1.1.12.3",  # X-Ray Angiographic Bi-Plane Image
        "1.2.840.10008.5.1.4.1.1.77.1",  # VL Image - Trial
        "1.2.840.10008.5.1.4.1.1.77.2",  # VL Multi-frame Image - Trial
        "1.2.840.10008.5.1.4.1.1.88.1",  # Text SR - Trial
        "1.2.840.10008.5.1.4.1.1.88.2",  # Audio SR - Trial
        "1.2.840.10008.5.1.4.1.1.88.3",  # Detail SR - Trial
        "1.2.840.10008.5.1.4.1.1.88.4",  # Comprehensive SR - Trial
        "1.2.840.10008.5.1.4.1.1.129",  # Standalone PET Curve
        "1.2.840.10008.5.1.4.34.1",  # RT Beams Delivery Instruction - Trial
    )
)
"""Composite instances of older equipment and archives; migrations bring them."""

INDUSTRIAL_STORAGE_SOP_CLASSES: tuple[UID, ...] = tuple(
    UID(uid)
    for uid in (
        "1.2.840.10008.5.1.4.1.1.501.1",  # DICOS CT Image
        "1.2.840.10008.5.1.4.1.1.501.2.1",  # DICOS Digital X-Ray Image - For Presentation
        "1.2.840.10008.5.1.4.1.1.501.2.2",  # DICOS Digital X-Ray Image - For Processing
        "1.2.840.10008.5.1.4.1.1.501.3",  # DICOS Threat Detection Report
        "1.2.840.10008.5.1.4.1.1.501.4",  # DICOS 2D AIT
        "1.2.840.10008.5.1.4.1.1.501.5",  # DICOS 3D AIT
        "1.2.840.10008.5.1.4.1.1.501.6",  # DICOS Quadrupole Resonance
        "1.2.840.10008.5.1.4.1.1.601.1",  # Eddy Current Image (DICONDE)
        "1.2.840.10008.5.1.4.1.1.601.2",  # Eddy Current Multi-frame Image (DICONDE)
    )
)
"""Security and non-destructive testing: composite instances of the same information model."""

STORAGE_SOP_CLASSES: tuple[UID, ...] = tuple(
    sorted(
        {
            *(UID(context.abstract_syntax or "") for context in AllStoragePresentationContexts),
            *RETIRED_STORAGE_SOP_CLASSES,
            *INDUSTRIAL_STORAGE_SOP_CLASSES,
        }
    )
)
"""Composite instances that belong to a study (PS3.4 B.5). Those of no patient (hanging protocols, colour palettes,
implant templates, inventories) have no Study Instance UID and are refused in negotiation."""

FURTHER_TRANSFER_SYNTAXES: tuple[UID, ...] = (
    UID("1.2.840.10008.1.2.1.98"),  # Encapsulated Uncompressed Explicit VR Little Endian
    *(UID(f"1.2.840.10008.1.2.4.{number}") for number in (52, 53, 54, 55, 56, *range(58, 67))),  # retired JPEG
)
"""Missing in pydicom's list; encapsulated like the others: stored and given back as they are."""

LIVE_TRANSFER_SYNTAX_PREFIX = "1.2.840.10008.1.2.7."
"""SMPTE ST 2110: streams over RTP, never data sets (PS3.22)."""

STORAGE_TRANSFER_SYNTAXES: tuple[UID, ...] = (
    *(syntax for syntax in AllTransferSyntaxes if not syntax.startswith(LIVE_TRANSFER_SYNTAX_PREFIX)),
    *FURTHER_TRANSFER_SYNTAXES,
)
"""Every transfer syntax of a stored data set. Left out: SMPTE ST 2110; JPIP Referenced (the pixels would stay with the
sender, an archive must have them); MIME and XML encodings and Papyrus 3 (retired, not Part 10 data sets)."""

QUERY_TRANSFER_SYNTAXES: tuple[UID, ...] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)

SUPPORTED: Mapping[UID, tuple[UID, ...]] = {
    VERIFICATION: QUERY_TRANSFER_SYNTAXES,
    PATIENT_ROOT_FIND: QUERY_TRANSFER_SYNTAXES,
    STUDY_ROOT_FIND: QUERY_TRANSFER_SYNTAXES,
    **dict.fromkeys(STORAGE_SOP_CLASSES, STORAGE_TRANSFER_SYNTAXES),
}
"""Transfer syntaxes by abstract syntax, all as SCP."""


def supported_among(proposed: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Our side of the negotiation for what a requestor proposes (PS3.8 9.3.3.2).

    Only proposed abstract syntaxes are returned, because a full table of contexts costs tens of milliseconds per
    association. The requestor's order of transfer syntaxes is kept, since requestors put first what their objects
    already have; but Implicit VR Little Endian gives way to Explicit VR where both are offered, so that private
    elements keep their value representations.
    """
    wanted: dict[UID, list[UID]] = {}
    for context in proposed:
        uid = UID(context.abstract_syntax or "")
        if uid in SUPPORTED:
            ordered = wanted.setdefault(uid, [])
            ordered.extend(syntax for syntax in context.transfer_syntax if syntax not in ordered)
    return [build_context(uid, [*_preferred(uid, proposal)]) for uid, proposal in wanted.items()]


def _preferred(uid: UID, proposal: list[UID]) -> list[UID]:
    """What we support of a proposal; Explicit VR Little Endian takes the place of an earlier Implicit VR.

    Without anything in common one of ours, so that the refusal names the transfer syntaxes as its reason.
    """
    ours = [syntax for syntax in proposal if syntax in SUPPORTED[uid]]
    if ExplicitVRLittleEndian in ours and ImplicitVRLittleEndian in ours:
        explicit, implicit = ours.index(ExplicitVRLittleEndian), ours.index(ImplicitVRLittleEndian)
        if implicit < explicit:
            ours[explicit], ours[implicit] = ours[implicit], ours[explicit]
    return ours or [ExplicitVRLittleEndian]


def extended_negotiation(requested: Mapping[UID, bytes]) -> dict[UID, bytes]:
    """Our answers to SOP Class Extended Negotiation of C-FIND (PS3.4 C.5.1.1.1), by SOP class.

    Relational queries are supported. Combined date-time matching, fuzzy matching, timezone adjustment and the enhanced
    multi-frame conversion are not.
    """
    finds = (uid for uid in requested if uid in (PATIENT_ROOT_FIND, STUDY_ROOT_FIND) and requested[uid])
    return {uid: requested[uid][:1] + bytes(len(requested[uid]) - 1) for uid in finds}
