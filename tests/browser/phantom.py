"""A body in section, made of ellipses with known Hounsfield units: the picture that the browser must show."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

SIZE = 512
"""Rows and columns."""
SLICES = 12
WINDOW_CENTER, WINDOW_WIDTH = 40, 400
"""Hounsfield units; what the instances carry, so what the viewer starts with."""
AIR_HU = -1000
PATIENT_NAME = "Phantom^Ellipses"


class Ellipse(NamedTuple):
    """One organ; lengths in pixels, ``y`` downwards; ``z`` is what each slice adds to the radii, in pixels."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    hu: int
    z: float = 0.0


ORGANS = (
    Ellipse(256, 262, 225, 165, -90),  # fat
    Ellipse(256, 262, 210, 150, 45),  # muscle
    Ellipse(256, 262, 192, 133, -20),
    Ellipse(158, 240, 84, 102, -180, 0.6),  # lungs: below the window, so black
    Ellipse(354, 240, 84, 102, -180, 0.6),
    Ellipse(280, 232, 62, 56, 110, -0.8),  # heart
    Ellipse(262, 228, 26, 30, 190),  # its ventricles
    Ellipse(310, 240, 18, 24, 170),
    Ellipse(256, 344, 30, 26, 400),  # spine: above the window, so white
    Ellipse(256, 344, 20, 17, 215),
    Ellipse(256, 376, 11, 9, 25),  # its canal
    Ellipse(210, 336, 17, 17, 150),  # aorta
    Ellipse(120, 210, 7, 7, 40),  # vessels
    Ellipse(170, 280, 6, 6, 40),
    Ellipse(380, 200, 7, 7, 40),
    Ellipse(350, 290, 6, 6, 40),
)
"""Painted in this order, later ones on top; left and right, top and bottom differ."""

FLAT_PLACES = {
    "muscle": (256, 404, 45),
    "mediastinum": (256, 158, -20),
    "aorta": (210, 336, 150),
    "ventricle": (262, 228, 190),
    "vertebra": (256, 340, 215),
    "left lung": (140, 250, -180),
}
"""Places (x, y) with nothing else within 8 pixels, and their Hounsfield units."""


def hounsfield(slice_index: int) -> NDArray[np.int16]:
    """The section at ``slice_index``, from 0. Top left, a bar as long as the number of the slice tells slices apart."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    image = np.full((SIZE, SIZE), AIR_HU, np.int16)
    for organ in ORGANS:
        grow = organ.z * slice_index
        inside = ((x - organ.x) / (organ.radius_x + grow)) ** 2 + ((y - organ.y) / (organ.radius_y + grow)) ** 2 <= 1
        image[inside] = organ.hu
    image[16:32, 16 : 16 + 32 * (slice_index + 1)] = 100
    image[480:496, 128:384] = np.linspace(-160, 240, 256, dtype=np.int16)
    return image


def displayed(slice_index: int, side: int) -> NDArray[np.float64]:
    """Grey values 0 to 255 of the section, ``side`` pixels wide, by the linear window of PS3.3 C.11.2.1.2.1."""
    values = hounsfield(slice_index).astype(np.float64)
    grey = ((values - (WINDOW_CENTER - 0.5)) / (WINDOW_WIDTH - 1) + 0.5) * 255
    image = Image.fromarray(np.clip(grey, 0, 255).astype(np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float64)


def grey_of(hu: float) -> float:
    """The grey value that the window gives to Hounsfield units."""
    return min(255.0, max(0.0, ((hu - (WINDOW_CENTER - 0.5)) / (WINDOW_WIDTH - 1) + 0.5) * 255))


def series() -> list[bytes]:
    """A CT series of signed 16-bit images as Part 10 files, explicit VR little endian, in order of their position."""
    study, serie, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
    return [part10(_image(study, serie, frame_of_reference, index)) for index in range(SLICES)]


def _image(study: UID, serie: UID, frame_of_reference: UID, index: int) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20240131", "093000", "ACC-1"
    ds.Modality, ds.ReferringPhysicianName = "CT", "Roe^Richard"
    ds.StudyDescription, ds.SeriesDescription = "Phantom of ellipses", "Axial 5 mm"
    ds.PatientName, ds.PatientID = PATIENT_NAME, "PHANTOM-1"
    ds.PatientBirthDate, ds.PatientSex = "19700101", "O"
    ds.SliceThickness, ds.KVP = 5, 120
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, serie, frame_of_reference
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "1", 1, index + 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-175, -175, 5.0 * index], [1, 0, 0, 0, 1, 0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.PixelSpacing = SIZE, SIZE, [0.68359375, 0.68359375]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.WindowCenter, ds.WindowWidth = WINDOW_CENTER, WINDOW_WIDTH
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
    ds.PixelData = hounsfield(index).astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def part10(ds: Dataset) -> bytes:
    """The data set as a Part 10 file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()
