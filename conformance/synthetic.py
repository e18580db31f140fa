"""Synthetic CT images with a header as long as a scanner's and pixels that do not compress to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

IMPLEMENTATION_CLASS_UID = "1.2.826.0.1.3680043.8.498.45787841905188114249"
PRIVATE_VALUES_PER_BLOCK = 24


@dataclass(frozen=True, slots=True)
class Image:
    """One file of a study."""

    path: Path
    study: str
    series: str
    instance: str
    frame_size: int
    """Bytes of the one frame: the last bytes of the file."""

    @property
    def url(self) -> str:
        """Path of the instance below a DICOMweb root."""
        return f"/studies/{self.study}/series/{self.series}/instances/{self.instance}"

    def frame(self) -> bytes:
        """The frame's bytes."""
        with self.path.open("rb") as file:
            file.seek(-self.frame_size, 2)
            return file.read()


@dataclass(frozen=True, slots=True)
class Study:
    """Images of one study, series by series."""

    uid: str
    images: tuple[Image, ...]

    @property
    def series(self) -> tuple[str, ...]:
        """Series Instance UIDs, in order."""
        return tuple(dict.fromkeys(image.series for image in self.images))


def make_ct_study(folder: Path, *, matrix: int, series: int, images: int, seed: int) -> Study:
    """Write ``series`` times ``images`` files of ``matrix`` x ``matrix`` 16-bit pixels; one seed, one result."""
    uid = _uid(seed, "study")
    made = []
    for series_number in range(1, series + 1):
        part = folder / f"series{series_number}"
        part.mkdir(parents=True, exist_ok=True)
        for number, ds in enumerate(_series(uid, series_number, images, matrix, seed), start=1):
            path = part / f"{number:04}.dcm"
            dcmwrite(path, ds, enforce_file_format=True)
            made.append(Image(path, uid, ds.SeriesInstanceUID, ds.SOPInstanceUID, matrix * matrix * 2))
    return Study(uid, tuple(made))


def _uid(*sources: object) -> str:
    return generate_uid(entropy_srcs=[str(source) for source in sources])


def _series(study: str, series_number: int, images: int, matrix: int, seed: int) -> Iterator[Dataset]:
    """One data set after the other; each is changed into the next, so write it before going on."""
    random = np.random.default_rng([seed, series_number])
    series = _uid(seed, "series", series_number)
    anatomy = _disc(matrix)
    ds = Dataset()
    _patient_and_study(ds, study, seed)
    _series_and_equipment(ds, series, series_number)
    _references(ds, study, seed)
    _private_block(ds, 0x0019, "SYNTHETIC ACQU 01", random)
    _private_block(ds, 0x0043, "SYNTHETIC PARM 01", random)
    for number in range(1, images + 1):
        instance = _uid(seed, series_number, number)
        ds.file_meta = _file_meta(instance)
        _acquisition(ds, number)
        _image(ds, instance, number, matrix)
        ds.PixelData = (anatomy + random.integers(0, 256, (matrix, matrix), dtype="<u2")).tobytes()
        ds["PixelData"].VR = "OW"
        yield ds


def _disc(matrix: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    """A bright disc: something that a viewer shows, below noise of eight bits."""
    y, x = np.ogrid[:matrix, :matrix]
    inside = (x - matrix / 2) ** 2 + (y - matrix / 2) ** 2 < (matrix * 0.4) ** 2
    return np.where(inside, 1024, 24).astype("<u2")


def _file_meta(instance: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    return meta


def _patient_and_study(ds: Dataset, study: str, seed: int) -> None:
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.InstanceCreationDate, ds.InstanceCreationTime = "20240131", "101530.120000"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240131"
    ds.StudyTime, ds.SeriesTime = "101500.000000", "101520.000000"
    ds.AccessionNumber, ds.StudyID = f"A{seed:07}", str(seed)
    ds.ReferringPhysicianName = "Roe^Richard^^Dr."
    ds.PerformingPhysicianName, ds.OperatorsName = "Moe^Mary", "Operator^One"
    ds.NameOfPhysiciansReadingStudy = "Poe^Paula"
    ds.StudyDescription = "CT thorax and abdomen with contrast"
    ds.PatientName, ds.PatientID = "Müller^Jürgen^^Dr.", f"SYN{seed:07}"
    ds.IssuerOfPatientID, ds.OtherPatientIDs = "SYNTHETIC", "X1\\X2"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19620317", "M", "061Y"
    ds.PatientSize, ds.PatientWeight = "1.82", "84.5"
    ds.EthnicGroup, ds.Occupation, ds.PregnancyStatus = "", "", 4
    ds.AdditionalPatientHistory = "Follow-up after resection; no known allergies. " * 4
    ds.PatientComments, ds.MedicalAlerts, ds.Allergies = "synthetic", "", ""
    ds.StudyInstanceUID = study
    ds.RequestedProcedureID = "RP1"
    ds.PerformedProcedureStepStartDate, ds.PerformedProcedureStepStartTime = "20240131", "101500"
    ds.PerformedProcedureStepID = "PPS1"
    ds.PerformedProcedureStepDescription = "CT thorax abdomen"


def _series_and_equipment(ds: Dataset, series: str, series_number: int) -> None:
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "CT", series, series_number
    ds.SeriesDescription = f"axial {series_number} x 1.0 B30f"
    ds.Manufacturer, ds.ManufacturerModelName = "SYNTHETIC", "Bench 64"
    ds.InstitutionName, ds.InstitutionAddress = "General Hospital", "1 Main Street, Springfield"
    ds.InstitutionalDepartmentName, ds.StationName = "Radiology", "CT01"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "10042", "v1.2\\v3.4"
    ds.DateOfLastCalibration, ds.TimeOfLastCalibration = "20240130", "060000"
    ds.ProtocolName, ds.BodyPartExamined, ds.PatientPosition = "ThoraxAbdomen", "CHEST", "HFS"
    ds.FrameOfReferenceUID = _uid(series, "frame of reference")
    ds.PositionReferenceIndicator, ds.Laterality = "SN", ""


def _acquisition(ds: Dataset, number: int) -> None:
    ds.AcquisitionTime = f"1015{20 + number % 40:02}.{number:06}"
    ds.AcquisitionNumber, ds.ScanOptions = 1, "HELICAL MODE"
    ds.KVP, ds.XRayTubeCurrent, ds.Exposure, ds.ExposureTime = "120", 210, 105, 500
    ds.ExposureInuAs, ds.GeneratorPower, ds.FilterType = 105000, 25, "BODY FILTER"
    ds.DataCollectionDiameter, ds.ReconstructionDiameter = "500.0", "380.0"
    ds.DistanceSourceToDetector, ds.DistanceSourceToPatient = "949.07", "541.0"
    ds.GantryDetectorTilt, ds.TableHeight, ds.RotationDirection = "0.0", "165.5", "CW"
    ds.FocalSpots, ds.ConvolutionKernel = "1.2", "B30f"
    ds.RevolutionTime, ds.SingleCollimationWidth, ds.TotalCollimationWidth = 0.5, 0.625, 40.0
    ds.TableSpeed, ds.TableFeedPerRotation, ds.SpiralPitchFactor = 110.0, 55.0, 1.375
    ds.CTDIvol, ds.ExposureModulationType = 9.87654321, "XYZ_EC"
    ds.ContrastBolusAgent, ds.ContrastBolusRoute = "Synthetic 300", "IV"
    ds.ContrastBolusVolume, ds.ContrastBolusStartTime = "90", "101400"


def _image(ds: Dataset, instance: str, number: int, matrix: int) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"]
    ds.SOPClassUID, ds.SOPInstanceUID, ds.InstanceNumber = CTImageStorage, instance, number
    ds.ContentTime = f"1015{20 + number % 40:02}.{number:06}"
    ds.SliceThickness, ds.SpacingBetweenSlices = "1.0", "1.0"
    ds.SliceLocation = f"{-100.0 + number:.1f}"
    ds.ImagePositionPatient = ["-190.0", "-190.0", f"{-100.0 + number:.1f}"]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.PixelSpacing = [f"{380 / matrix:.6f}"] * 2
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = matrix
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.SmallestImagePixelValue, ds.LargestImagePixelValue = 0, 4095
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.WindowCenter, ds.WindowWidth = ["40", "-600"], ["400", "1600"]
    ds.WindowCenterWidthExplanation = ["SOFT TISSUE", "LUNG"]
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    ds.ImageComments = ""


def _references(ds: Dataset, study: str, seed: int) -> None:
    ds.ReferencedStudySequence = Sequence([_reference("1.2.840.10008.3.1.2.3.1", study)])
    ds.ReferencedPerformedProcedureStepSequence = Sequence([_reference("1.2.840.10008.3.1.2.3.3", _uid(study, "step"))])
    localizers = [_reference(CTImageStorage, _uid(seed, "localizer", number)) for number in range(2)]
    ds.ReferencedImageSequence = Sequence(localizers)
    ds.ProcedureCodeSequence = Sequence([_code("CTTHAB", "99SYN", "CT thorax and abdomen")])
    ds.CTDIPhantomTypeCodeSequence = Sequence([_code("113691", "DCM", "IEC Body Dosimetry Phantom")])
    request = Dataset()
    request.RequestedProcedureDescription = "CT thorax abdomen"
    request.ScheduledProcedureStepDescription = "CT thorax abdomen"
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "SPS1", "RP1"
    request.ScheduledProtocolCodeSequence = Sequence([_code("CTTHAB", "99SYN", "CT thorax and abdomen")])
    ds.RequestAttributesSequence = Sequence([request])


def _reference(sop_class: str, instance: str) -> Dataset:
    ds = Dataset()
    ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = sop_class, instance
    return ds


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning
    return ds


def _private_block(ds: Dataset, group: int, creator: str, random: np.random.Generator) -> None:
    """Private elements of the kinds that scanners write: numbers, text, and a small opaque value."""
    block = ds.private_block(group, creator, create=True)
    for offset in range(PRIVATE_VALUES_PER_BLOCK):
        kind = offset % 4
        if kind == 0:
            block.add_new(offset, "DS", f"{random.uniform(-1000, 1000):.6f}")
        elif kind == 1:
            block.add_new(offset, "LO", f"parameter {offset}")
        elif kind == 2:
            block.add_new(offset, "SL", int(random.integers(-(2**31), 2**31)))
        else:
            block.add_new(offset, "OB", random.bytes(32))
