from __future__ import annotations

from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE, build_context
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from dicomhub.dimse.contexts import (
    STORAGE_SOP_CLASSES,
    STORAGE_TRANSFER_SYNTAXES,
    STUDY_ROOT_FIND,
    VERIFICATION,
    supported_among,
)
from tests.dimse.conftest import CT_IMAGE_STORAGE, Listen


def test_every_storage_sop_class_is_accepted_with_every_transfer_syntax(listen: Listen, scu: AE) -> None:
    """128 presentation contexts per association, each with all transfer syntaxes."""
    port = listen().port
    for start in range(0, len(STORAGE_SOP_CLASSES), 128):
        contexts = [
            build_context(uid, [*STORAGE_TRANSFER_SYNTAXES]) for uid in STORAGE_SOP_CLASSES[start : start + 128]
        ]
        assoc = scu.associate("127.0.0.1", port, contexts=contexts)
        assert assoc.is_established
        assert len(assoc.accepted_contexts) == len(contexts)
        assoc.release()


def test_each_transfer_syntax_is_accepted_alone(listen: Listen, scu: AE) -> None:
    contexts = [build_context(CT_IMAGE_STORAGE, syntax) for syntax in STORAGE_TRANSFER_SYNTAXES]
    assoc = scu.associate("127.0.0.1", listen().port, contexts=contexts)
    assert [cx.transfer_syntax for cx in assoc.accepted_contexts] == [[syntax] for syntax in STORAGE_TRANSFER_SYNTAXES]
    assoc.release()


def test_tables_hold_what_archives_must_take() -> None:
    assert len(STORAGE_SOP_CLASSES) == len(set(STORAGE_SOP_CLASSES)) > 190
    assert len(STORAGE_TRANSFER_SYNTAXES) == len(set(STORAGE_TRANSFER_SYNTAXES)) > 45
    assert all(uid.name.startswith("1.2") or "Storage" in uid.name for uid in STORAGE_SOP_CLASSES)
    assert "1.2.840.10008.1.3.10" not in STORAGE_SOP_CLASSES  # DICOMDIR is no composite instance
    assert "1.2.840.10008.5.1.4.38.1" not in STORAGE_SOP_CLASSES  # a hanging protocol has no study


def test_unknown_abstract_syntax_and_foreign_transfer_syntax_are_refused_per_context(listen: Listen, scu: AE) -> None:
    contexts = [
        build_context(VERIFICATION, ImplicitVRLittleEndian),
        build_context("1.2.826.0.1.999.1", ImplicitVRLittleEndian),
        build_context(CT_IMAGE_STORAGE, "1.2.826.0.1.999.2"),
    ]
    assoc = scu.associate("127.0.0.1", listen().port, contexts=contexts)
    assert [cx.abstract_syntax for cx in assoc.accepted_contexts] == [VERIFICATION]
    assert [cx.result for cx in assoc.rejected_contexts] == [3, 4]  # PS3.8 table 9-18
    assoc.release()


def chosen(*proposal: UID) -> UID:
    (context,) = supported_among([build_context(CT_IMAGE_STORAGE, [*proposal])])
    return UID(context.transfer_syntax[0])


def test_first_proposed_transfer_syntax_wins_but_explicit_vr_over_implicit() -> None:
    assert chosen(JPEG2000Lossless, ExplicitVRLittleEndian) == JPEG2000Lossless
    assert chosen(ImplicitVRLittleEndian, ExplicitVRLittleEndian) == ExplicitVRLittleEndian
    assert chosen(ImplicitVRLittleEndian, JPEG2000Lossless, ExplicitVRLittleEndian) == ExplicitVRLittleEndian
    assert chosen(ImplicitVRLittleEndian, JPEG2000Lossless) == ImplicitVRLittleEndian
    assert chosen(ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian) == ExplicitVRLittleEndian


def test_relational_queries_are_agreed_to_and_nothing_else(listen: Listen, scu: AE) -> None:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = STUDY_ROOT_FIND
    item.service_class_application_information = b"\x01\x01\x01\x00\x01"
    contexts = [build_context(STUDY_ROOT_FIND)]
    assoc = scu.associate("127.0.0.1", listen().port, contexts=contexts, ext_neg=[item])
    assert assoc.acceptor.sop_class_extended == {STUDY_ROOT_FIND: b"\x01\x00\x00\x00\x00"}
    assoc.release()


def test_same_abstract_syntax_in_several_contexts_keeps_each_transfer_syntax(listen: Listen, scu: AE) -> None:
    contexts = [build_context(CT_IMAGE_STORAGE, syntax) for syntax in (ImplicitVRLittleEndian, JPEG2000Lossless)]
    assoc = scu.associate("127.0.0.1", listen().port, contexts=contexts)
    assert [cx.transfer_syntax for cx in assoc.accepted_contexts] == [[ImplicitVRLittleEndian], [JPEG2000Lossless]]
    assoc.release()
