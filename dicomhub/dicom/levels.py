"""Which attribute belongs to which level, and what a search answers by default.

Levels follow the modules of PS3.3 (Patient, Clinical Trial Subject; General, Patient and Clinical Trial Study; General
and Clinical Trial Series, General Equipment, Frame of Reference). What no module of a higher level claims, private
attributes too, belongs to the instance. PS3.18 10.6 uses the Study Root model: patient attributes are the study's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydicom.datadict import tag_for_keyword

from dicomhub.dicom.model import Level

Attributes = dict[str, Any]
"""DICOM JSON of one data set (PS3.18 F.2): eight upper-case hexadecimal digits to ``{"vr": ..., "Value": [...]}``."""


def _tags(keywords: str) -> tuple[int, ...]:
    """Tags of keywords of PS3.6; a misspelt keyword fails at import."""
    found = {keyword: tag_for_keyword(keyword) for keyword in keywords.split()}
    missing = [keyword for keyword, tag in found.items() if tag is None]
    if missing:
        raise LookupError(f"no keyword of PS3.6: {missing}")
    return tuple(tag for tag in found.values() if tag is not None)


PATIENT_ATTRIBUTES = frozenset(
    _tags(
        """
        PatientName PatientID IssuerOfPatientID TypeOfPatientID IssuerOfPatientIDQualifiersSequence
        SourcePatientGroupIdentificationSequence GroupOfPatientsIdentificationSequence PatientBirthDate PatientBirthTime
        PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar PatientAlternativeCalendar
        PatientSex QualityControlSubject StrainDescription StrainNomenclature StrainStockSequence
        StrainAdditionalInformation StrainCodeSequence GeneticModificationsSequence OtherPatientNames OtherPatientIDs
        OtherPatientIDsSequence ReferencedPatientPhotoSequence ReferencedPatientSequence EthnicGroup
        EthnicGroupCodeSequence
        PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription PatientBreedCodeSequence
        BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization PatientComments
        PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence PatientBirthName
        PatientMotherBirthName PatientAddress CountryOfResidence RegionOfResidence PatientTelephoneNumbers MilitaryRank
        BranchOfService PatientReligiousPreference PatientPrimaryLanguageCodeSequence
        ClinicalTrialSponsorName ClinicalTrialProtocolID IssuerOfClinicalTrialProtocolID
        OtherClinicalTrialProtocolIDsSequence ClinicalTrialProtocolName ClinicalTrialSiteID IssuerOfClinicalTrialSiteID
        ClinicalTrialSiteName ClinicalTrialSubjectID IssuerOfClinicalTrialSubjectID ClinicalTrialSubjectReadingID
        IssuerOfClinicalTrialSubjectReadingID ClinicalTrialProtocolEthicsCommitteeName
        ClinicalTrialProtocolEthicsCommitteeApprovalNumber
        """
    )
)
"""Patient (PS3.3 C.7.1.1) and Clinical Trial Subject (C.7.1.3) modules, patient identification (C.2.2, C.2.3)."""

STUDY_ATTRIBUTES = frozenset(
    _tags(
        """
        StudyInstanceUID StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence ReferringPhysicianName
        ReferringPhysicianIdentificationSequence ReferringPhysicianAddress ReferringPhysicianTelephoneNumbers
        ConsultingPhysicianName ConsultingPhysicianIdentificationSequence StudyID StudyDescription ProcedureCodeSequence
        PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy
        PhysiciansReadingStudyIdentificationSequence RequestingService RequestingServiceCodeSequence RequestingPhysician
        ReferencedStudySequence ReasonForPerformedProcedureCodeSequence ReasonForStudy StudyComments StudyStatusID
        StudyPriorityID RequestedProcedureDescription RequestedProcedureCodeSequence
        AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientWeight
        PatientSizeCodeSequence PatientBodyMassIndex MeasuredAPDimension MeasuredLateralDimension MedicalAlerts
        Allergies Occupation SmokingStatus AdditionalPatientHistory PregnancyStatus LastMenstrualDate PatientSexNeutered
        ReasonForVisit ReasonForVisitCodeSequence AdmissionID IssuerOfAdmissionIDSequence AdmittingDate AdmittingTime
        ServiceEpisodeID IssuerOfServiceEpisodeIDSequence ServiceEpisodeDescription PatientState
        CurrentPatientLocation PatientInstitutionResidence
        ClinicalTrialTimePointID IssuerOfClinicalTrialTimePointID ClinicalTrialTimePointDescription
        ClinicalTrialTimePointTypeCodeSequence LongitudinalTemporalOffsetFromEvent LongitudinalTemporalEventType
        ConsentForClinicalTrialUseSequence
        """
    )
) | {
    0x00100011,  # Person Names to Use Sequence (too new for pydicom's dictionary, as the next three)
    0x00100014,  # Third Person Pronouns Sequence
    0x00100041,  # Gender Identity Sequence
    0x00100043,  # Sex Parameters for Clinical Use Category Sequence
}
"""General Study (PS3.3 C.7.2.1), Patient Study (C.7.2.2) and Clinical Trial Study (C.7.2.3) modules."""

SERIES_ATTRIBUTES = frozenset(
    _tags(
        """
        Modality SeriesInstanceUID SeriesNumber Laterality SeriesDate SeriesTime PerformingPhysicianName
        PerformingPhysicianIdentificationSequence ProtocolName SeriesDescription SeriesDescriptionCodeSequence
        OperatorsName OperatorIdentificationSequence ReferencedPerformedProcedureStepSequence RelatedSeriesSequence
        BodyPartExamined PatientPosition SmallestPixelValueInSeries LargestPixelValueInSeries RequestAttributesSequence
        PerformedProcedureStepID PerformedProcedureStepStartDate PerformedProcedureStepStartTime
        PerformedProcedureStepEndDate PerformedProcedureStepEndTime PerformedProcedureStepDescription
        PerformedProtocolCodeSequence CommentsOnThePerformedProcedureStep AnatomicalOrientationType TreatmentSessionUID
        PresentationIntentType ClinicalTrialCoordinatingCenterName ClinicalTrialSeriesID IssuerOfClinicalTrialSeriesID
        ClinicalTrialSeriesDescription
        Manufacturer InstitutionName InstitutionAddress StationName InstitutionalDepartmentName
        InstitutionalDepartmentTypeCodeSequence ManufacturerModelName ManufacturerDeviceClassUID DeviceSerialNumber
        SoftwareVersions GantryID UDISequence DeviceUID SpatialResolution DateOfManufacture DateOfInstallation
        DateOfLastCalibration TimeOfLastCalibration
        FrameOfReferenceUID PositionReferenceIndicator
        """
    )
)
"""General Series (PS3.3 C.7.3.1), Clinical Trial Series (C.7.3.2), Frame of Reference (C.7.4.1) and General Equipment
(C.7.5.1) modules."""

INSTANCE_ATTRIBUTES = frozenset(
    _tags(
        """
        SOPClassUID SOPInstanceUID InstanceNumber Rows Columns BitsAllocated BitsStored SamplesPerPixel
        PhotometricInterpretation NumberOfFrames TotalPixelMatrixColumns TotalPixelMatrixRows DimensionOrganizationType
        ImageType InstanceCreationDate InstanceCreationTime ContentDate ContentTime AcquisitionDate AcquisitionTime
        AcquisitionDateTime AcquisitionNumber SliceLocation SliceThickness RelatedGeneralSOPClassUID ContainerIdentifier
        ContentLabel ContentDescription ContentCreatorName ConceptNameCodeSequence CompletionFlag VerificationFlag
        DocumentTitle MIMETypeOfEncapsulatedDocument PresentationCreationDate PresentationCreationTime
        TimezoneOffsetFromUTC
        """
    )
)
"""Instance attributes kept in each instance's row; all others are read from its metadata when a search names them."""

TIMEZONE_OFFSET_FROM_UTC = 0x00080201
"""Of the instance (SOP Common), but returned at every level when known (PS3.18 10.6.3.3)."""

INSTANCE_AVAILABILITY = 0x00080056

COMPUTED: Mapping[int, Level] = {
    INSTANCE_AVAILABILITY: Level.PATIENT,  # the same at every level
    0x00201200: Level.PATIENT,  # Number of Patient Related Studies
    0x00201202: Level.PATIENT,  # Number of Patient Related Series
    0x00201204: Level.PATIENT,  # Number of Patient Related Instances
    0x00080061: Level.STUDY,  # Modalities in Study
    0x00080062: Level.STUDY,  # SOP Classes in Study
    0x00201206: Level.STUDY,  # Number of Study Related Series
    0x00201208: Level.STUDY,  # Number of Study Related Instances
    0x00201209: Level.SERIES,  # Number of Series Related Instances
    0x00083002: Level.INSTANCE,  # Available Transfer Syntax UID
}
"""Query attributes of PS3.4 C.3.4 that no data set carries: the index knows them. A data set's own are not believed."""

DEFAULT_RETURN: Mapping[Level, tuple[int, ...]] = {
    Level.PATIENT: _tags("PatientName PatientID PatientBirthDate PatientSex"),
    Level.STUDY: _tags(
        """
        StudyDate StudyTime AccessionNumber InstanceAvailability ModalitiesInStudy ReferringPhysicianName
        TimezoneOffsetFromUTC RetrieveURL PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyID
        NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances StudyDescription
        """
    ),
    Level.SERIES: _tags(
        """
        InstanceAvailability Modality TimezoneOffsetFromUTC SeriesDescription RetrieveURL StudyInstanceUID
        SeriesInstanceUID SeriesNumber NumberOfSeriesRelatedInstances PerformedProcedureStepStartDate
        PerformedProcedureStepStartTime RequestAttributesSequence
        """
    ),
    Level.INSTANCE: _tags(
        """
        SOPClassUID SOPInstanceUID InstanceAvailability TimezoneOffsetFromUTC RetrieveURL AvailableTransferSyntaxUID
        StudyInstanceUID SeriesInstanceUID InstanceNumber Rows Columns BitsAllocated NumberOfFrames
        """
    ),
}
"""What a search returns unasked: PS3.18 Tables 10.6.3-3, -4 and -5.

Beyond the tables: Study Description (every study list shows it), the parents' UIDs (without them a result could not be
retrieved) and Available Transfer Syntax UID (slide viewers choose by it).
"""

ALWAYS_PRESENT = frozenset(
    _tags(
        """
        StudyDate StudyTime AccessionNumber ReferringPhysicianName PatientName PatientID PatientBirthDate PatientSex
        StudyID Modality SeriesNumber InstanceNumber
        """
    )
)
"""Type R of the tables: returned empty where the data set has none (PS3.4 C.2.2.1.2)."""


def key(tag: int) -> str:
    """How DICOM JSON writes a tag (PS3.18 F.2.2)."""
    return f"{tag:08X}"


_LEVELS: Mapping[int, Level] = {
    **dict.fromkeys(PATIENT_ATTRIBUTES, Level.PATIENT),
    **dict.fromkeys(STUDY_ATTRIBUTES, Level.STUDY),
    **dict.fromkeys(SERIES_ATTRIBUTES, Level.SERIES),
    **COMPUTED,
}
_STUDY_KEYS = frozenset(map(key, PATIENT_ATTRIBUTES | STUDY_ATTRIBUTES))
_SERIES_KEYS = frozenset(map(key, SERIES_ATTRIBUTES))
_INSTANCE_KEYS = frozenset(map(key, INSTANCE_ATTRIBUTES))
_EVERYWHERE = key(TIMEZONE_OFFSET_FROM_UTC)


DEPTH: Mapping[Level, int] = {Level.PATIENT: 0, Level.STUDY: 1, Level.SERIES: 2, Level.INSTANCE: 3}
"""Levels from the top: an entity of one level has the attributes of all levels above."""


def level_of(tag: int) -> Level:
    """The level whose entities have the attribute; the instance for whatever no higher level claims."""
    return _LEVELS.get(tag, Level.INSTANCE)


def is_returned(tag: int, level: Level) -> bool:
    """Whether entities of ``level`` have the attribute; those of lower levels are not returned (PS3.18 10.6.3.3)."""
    return tag == TIMEZONE_OFFSET_FROM_UTC or DEPTH[level_of(tag)] <= DEPTH[level]


OF_THE_ANSWER = frozenset(_tags("SpecificCharacterSet QueryRetrieveLevel RetrieveAETitle RetrieveURL"))
"""Attributes that describe an answer of ours; what a data set says of them has no meaning here."""


def is_kept(tag: int) -> bool:
    """Whether rows of the index carry the attribute, or no data set does, so that no metadata is read for it."""
    return tag in _LEVELS or tag in INSTANCE_ATTRIBUTES or tag in OF_THE_ANSWER


def split_levels(metadata: Attributes) -> tuple[Attributes, Attributes, Attributes]:
    """Attributes of the study (with the patient's), the series and the instance, as rows of the index keep them.

    Values that are bulk data or binary are left out: no search matches or returns them.
    """
    study: Attributes = {}
    series: Attributes = {}
    instance: Attributes = {}
    for tag, element in metadata.items():
        if tag in _INSTANCE_KEYS:
            target = instance
        elif tag in _STUDY_KEYS:
            target = study
        elif tag in _SERIES_KEYS:
            target = series
        else:
            continue
        if "BulkDataURI" not in element and "InlineBinary" not in element:
            target[tag] = element
    if _EVERYWHERE in instance:
        study[_EVERYWHERE] = series[_EVERYWHERE] = instance[_EVERYWHERE]
    return study, series, instance
