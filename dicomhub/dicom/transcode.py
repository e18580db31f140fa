"""One frame from the transfer syntax it is stored in to native pixel data, little endian (PS3.5 8.1, 8.2, A.4).

Codecs are imagecodecs' (BSD): libjpeg-turbo for every JPEG process, CharLS, OpenJPEG, OpenJPH, libjxl. What they give
back is brought to the form that the Image Pixel attributes describe, so that decoded frames can stand where native ones
would: Bits Allocated wide, sign-extended, with the described Planar Configuration. Only what the compression itself did
to colours is undone, and then the attributes change: see `decoded_description`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from dicomhub.dicom.file_meta import EXPLICIT_VR_BIG_ENDIAN
from dicomhub.dicom.frames import FLOAT_BITS, samples_of_frame
from dicomhub.dicom.media_types import NATIVE
from dicomhub.errors import NotAcceptable

Array = NDArray[Any]

DEFLATED_IMAGE_FRAME = "1.2.840.10008.1.2.8.1"
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"

_LOSSY_JPEG = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
_LOSSLESS_JPEG = frozenset({"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"})
_JPEG_LS = frozenset({"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"})
_JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 92, 93, 203))
_LOSSLESS_HTJ2K = frozenset({"1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202"})
_JPEG_XL = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112))
_PLAIN = frozenset({RLE_LOSSLESS, DEFLATED_IMAGE_FRAME, ENCAPSULATED_UNCOMPRESSED})
"""Encapsulated transfer syntaxes that keep the pixel cells as they are."""


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """What the bytes of a native frame mean (Image Pixel Module, PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    samples_per_pixel: int = 1
    bits_allocated: int = 16
    bits_stored: int = 16
    is_signed: bool = False
    photometric_interpretation: str = "MONOCHROME2"
    planar_configuration: int = 0
    """0: the samples of a pixel are together; 1: each sample has its plane."""
    is_float: bool = False
    """Float or Double Float Pixel Data (7FE0,0008), (7FE0,0009)."""
    vr: str = "OW"
    """Of the pixel data element as stored; says how big-endian bytes were swapped."""

    @property
    def samples(self) -> int:
        """Sample values stored for one frame."""
        return samples_of_frame(self.rows, self.columns, self.samples_per_pixel, self.photometric_interpretation)

    @property
    def frame_bits(self) -> int:
        """Bits of one native frame; frames of 1-bit pixels follow each other without padding (PS3.5 8.1.1)."""
        return self.samples * self.bits_allocated

    @property
    def frame_bytes(self) -> int:
        """Bytes that hold one native frame of its own."""
        return (self.frame_bits + 7) // 8

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one sample in native little endian data; bytes for packed bits."""
        if self.bits_allocated == 1:
            return np.dtype("u1")
        kind = "f" if self.is_float else "i" if self.is_signed else "u"
        return np.dtype(f"<{kind}{self.bits_allocated // 8}")


def describe(attributes: Mapping[str, Any]) -> PixelDescription:
    """Read the description from DICOM JSON (PS3.18 F).

    Raises
    ------
    NotAcceptable
        When the attributes do not describe pixels.
    """

    def value(tag: str, default: Any = None) -> Any:
        values = attributes.get(tag, {}).get("Value") or [default]
        return values[0]

    bits_allocated = value("00280100", 0)
    float_bits = next((bits for tag, bits in FLOAT_BITS.items() if tag in attributes), 0)
    description = PixelDescription(
        rows=int(value("00280010", 0)),
        columns=int(value("00280011", 0)),
        samples_per_pixel=int(value("00280002", 1)),
        bits_allocated=int(float_bits or bits_allocated),
        bits_stored=int(float_bits or value("00280101", bits_allocated)),
        is_signed=bool(value("00280103", 0)),
        photometric_interpretation=str(value("00280004", "MONOCHROME2")).strip(),
        planar_configuration=int(value("00280006", 0)),
        is_float=bool(float_bits),
        vr=str(attributes.get("7FE00010", {}).get("vr", "OW")),
    )
    if not description.frame_bits or description.bits_allocated not in (1, 8, 16, 32, 64):
        raise NotAcceptable(
            f"Rows, Columns, Samples per Pixel or Bits Allocated ({bits_allocated}) describe no pixels: "
            "retrieve the instance with transfer-syntax=*"
        )
    return description


def decoded_description(description: PixelDescription, transfer_syntax_uid: str) -> PixelDescription:
    """How the attributes change when frames of this transfer syntax are decoded by `decode_frame`.

    Colour transforms that belong to a compression (YBR_RCT, YBR_ICT, XYB, and YCbCr of lossy JPEG) end as RGB by pixel;
    lossless JPEG, JPEG-LS and RLE keep the colour space they were given (PS3.5 8.2).
    """
    if description.samples_per_pixel == 1 or transfer_syntax_uid in _PLAIN | NATIVE:
        return description
    photometric = description.photometric_interpretation
    is_transformed = photometric in ("YBR_RCT", "YBR_ICT", "XYB") or (
        transfer_syntax_uid in _LOSSY_JPEG and photometric.startswith("YBR_")
    )
    if is_transformed:
        photometric = "RGB"
    elif photometric == "YBR_FULL_422":
        photometric = "YBR_FULL"  # decoders give every pixel its samples
    return replace(description, photometric_interpretation=photometric, planar_configuration=0)


def decode_frame(frame: bytes, description: PixelDescription, transfer_syntax_uid: str) -> bytes:
    """One frame as native little endian pixel data.

    Parameters
    ----------
    frame
        The frame as stored: the codestream with its fragments joined, or native bytes.
    description
        Of the instance as stored; what comes back fits `decoded_description` of it.

    Returns
    -------
    bytes
        Exactly ``frame_bytes`` of the decoded description. 1-bit pixels are packed, the first one in the lowest bit.

    Raises
    ------
    NotAcceptable
        When there is no decoder, or the codestream is damaged or not what the attributes describe.
    """
    if transfer_syntax_uid in NATIVE:
        return swap_bytes(frame, description) if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else frame
    decoder = _decoder(transfer_syntax_uid)
    if decoder is None:
        raise NotAcceptable(f"Transfer syntax {transfer_syntax_uid} cannot be decoded: ask for transfer-syntax=*")
    try:
        native = decoder(frame, description)
    except NotAcceptable:
        raise
    except Exception as error:  # codecs raise their own classes, all of which mean the same here
        raise NotAcceptable(f"A frame cannot be decoded ({error}): ask for transfer-syntax=*") from error
    expected = decoded_description(description, transfer_syntax_uid).frame_bytes
    if len(native) != expected:
        raise NotAcceptable(
            f"A frame decodes to {len(native)} bytes where Rows, Columns, Samples per Pixel and Bits Allocated "
            f"describe {expected}: ask for transfer-syntax=*"
        )
    return native


def swap_bytes(data: bytes, description: PixelDescription) -> bytes:
    """Native pixel data from big to little endian (PS3.5 7.3)."""
    return swap(data, swap_width(description))


def swap_width(description: PixelDescription) -> int:
    """Bytes of one unit that big endian turns around: a pixel cell, and in OW at least a word."""
    return max(description.bits_allocated // 8, 2 if description.vr == "OW" else 1)


def swap(data: bytes, width: int) -> bytes:
    """Reverse the bytes of every unit of ``width``; an incomplete last unit stays as it is."""
    if width == 1:
        return data
    whole = len(data) - len(data) % width
    return np.frombuffer(data, f"u{width}", whole // width).byteswap().tobytes() + data[whole:]


def extract_bits(data: bytes, first_bit: int, count: int) -> bytes:
    """``count`` bits from ``first_bit`` (0 is the lowest of the first byte) as bytes of their own, padded with zeros.

    Frames of 1-bit pixels need not begin at a byte (PS3.5 8.1.1).
    """
    if first_bit % 8 == 0 and count % 8 == 0:
        return data[first_bit // 8 : (first_bit + count) // 8]
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[first_bit : first_bit + count]
    return np.packbits(bits, bitorder="little").tobytes()


# ------------------------------------------------------------------------------------------------------------ decoders

Decoder = Callable[[bytes, PixelDescription], bytes]


def _decoder(transfer_syntax_uid: str) -> Decoder | None:
    families: tuple[tuple[frozenset[str], Decoder], ...] = (
        (_LOSSY_JPEG, _decode_lossy_jpeg),
        (_LOSSLESS_JPEG, _decode_lossless_jpeg),
        (_JPEG_LS, _decode_jpeg_ls),
        (_JPEG_2000, partial(_decode_jpeg_2000, codec=imagecodecs.jpeg2k_decode)),
        # Twice as fast, but where lossy coding overshoots it wraps (imagecodecs 2026.3) instead of clipping.
        (_LOSSLESS_HTJ2K, partial(_decode_jpeg_2000, codec=imagecodecs.htj2k_decode)),
        (_JPEG_XL, _decode_jpeg_xl),
        (frozenset({RLE_LOSSLESS}), _decode_rle),
        (frozenset({DEFLATED_IMAGE_FRAME}), _inflate),
        (frozenset({ENCAPSULATED_UNCOMPRESSED}), _unwrap),
    )
    return next((decoder for uids, decoder in families if transfer_syntax_uid in uids), None)


def _decode_lossy_jpeg(frame: bytes, description: PixelDescription) -> bytes:
    """Processes 1, 2 and 4, 8 and 12 bit."""
    is_rgb = description.photometric_interpretation == "RGB" and description.samples_per_pixel == 3
    if is_rgb and not _has_adobe_marker(frame):
        # Without the marker libjpeg takes three components for YCbCr; the attribute knows better.
        array = imagecodecs.jpeg8_decode(frame, colorspace="RGB", outcolorspace="RGB")
    else:
        array = imagecodecs.jpeg8_decode(frame)
    return _to_native(array, description, _jpeg_precision(frame))


def _decode_lossless_jpeg(frame: bytes, description: PixelDescription) -> bytes:
    """Process 14, any selection value; lossless JPEG knows no colour transform."""
    colour_space = "RGB" if description.samples_per_pixel == 3 else None
    array = imagecodecs.jpeg8_decode(frame, colorspace=colour_space, outcolorspace=colour_space)
    return _to_native(array, description, _jpeg_precision(frame))


def _decode_jpeg_ls(frame: bytes, description: PixelDescription) -> bytes:
    return _to_native(imagecodecs.jpegls_decode(frame), description, _jpeg_precision(frame))


def _decode_jpeg_2000(frame: bytes, description: PixelDescription, codec: Callable[[bytes], Array]) -> bytes:
    return _to_native(codec(frame), description, _jpeg_2000_precision(frame))


def _decode_jpeg_xl(frame: bytes, description: PixelDescription) -> bytes:
    return _to_native(imagecodecs.jpegxl_decode(frame), description, description.bits_stored)


def _decode_rle(frame: bytes, description: PixelDescription) -> bytes:
    """PS3.5 G: one segment for each byte of each sample, most significant first; decoded to planes."""
    planes = bytes(imagecodecs.dicomrle_decode(frame, description.dtype))
    if description.samples_per_pixel == 1:
        return planes[: description.frame_bytes]  # segments of odd length are padded
    size = description.rows * description.columns
    array = np.frombuffer(planes, description.dtype, size * description.samples_per_pixel)
    array = array.reshape(description.samples_per_pixel, size)
    return (array if description.planar_configuration else array.T).tobytes()


def _inflate(frame: bytes, description: PixelDescription) -> bytes:
    """PS3.5 A.4.13: every frame is a raw deflate stream; never inflates beyond the frame."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, description.frame_bytes)


def _unwrap(frame: bytes, description: PixelDescription) -> bytes:
    return frame[: description.frame_bytes]


def _to_native(array: Array, description: PixelDescription, precision: int) -> bytes:
    """A decoded array, rows x columns [x samples], in the described width and sign."""
    if description.bits_allocated == 1:
        return np.packbits(array.astype(bool, copy=False), axis=None, bitorder="little").tobytes()
    if description.is_signed and array.dtype.kind == "u":
        # The codestream does not know that its values are signed: its highest bit is the sign.
        array = _extend_sign(array, precision, description.dtype)
    elif not description.is_signed and array.dtype.kind == "i":
        array = array.astype(description.dtype) & np.array((1 << precision) - 1, description.dtype)
    return np.ascontiguousarray(array, description.dtype).tobytes()


def _extend_sign(array: Array, precision: int, dtype: np.dtype[Any]) -> Array:
    shift = 8 * dtype.itemsize - precision
    array = array.astype(dtype)
    return array if shift <= 0 else (array << shift) >> shift


# ------------------------------------------------------------------------------------------- headers of the codestreams

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""SOF0 to SOF15 without DHT, JPG and DAC (ITU-T T.81 Table B.1), and SOF55 of JPEG-LS (T.87)."""


def _segments(frame: bytes) -> dict[int, bytes]:
    """Marker segments of a JPEG or JPEG-LS stream up to its scan, the last one of each kind."""
    found: dict[int, bytes] = {}
    position = 2
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xDA:  # start of scan
            break
        size = int.from_bytes(frame[position + 2 : position + 4])
        found[marker] = frame[position + 4 : position + 2 + size]
        position += 2 + max(size, 2)
    return found


def _jpeg_precision(frame: bytes) -> int:
    """Bits of a sample in the codestream; 16 when it does not say."""
    return next((body[0] for marker, body in _segments(frame).items() if marker in _START_OF_FRAME and body), 16)


def _has_adobe_marker(frame: bytes) -> bool:
    return _segments(frame).get(0xEE, b"").startswith(b"Adobe")


def _jpeg_2000_precision(frame: bytes) -> int:
    """Bits of a sample of the first component: Ssiz of the SIZ segment (ITU-T T.800 A.5.1)."""
    start = frame.find(b"\xff\x4f\xff\x51")  # behind the boxes, should there be a JP2 file around the codestream
    ssiz = start + 4 + 38
    return (frame[ssiz] & 0x7F) + 1 if start >= 0 and ssiz < len(frame) else 16
