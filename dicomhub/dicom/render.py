"""One frame as an image that any browser shows (PS3.18 8.3.5, 10.4.1.1.3): windowed, cropped, scaled, encoded."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicomhub.dicom.grayscale import Tables, Window, read_grayscale, read_palette, to_gray, to_rgb
from dicomhub.dicom.transcode import PixelDescription
from dicomhub.errors import BadRequest, NotAcceptable

Array = NDArray[Any]

DEFAULT_QUALITY = 90
"""JPEG quality, 1 to 100."""
THUMBNAIL_PIXELS = 256
"""Longest side of a thumbnail."""
MAX_VIEWPORT_PIXELS = 16384
"""Longest side that may be asked for."""
MAX_RENDERED_PIXELS = 2**27
"""Pixels of an image that is rendered; more would take gigabytes in a request."""

_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "linear_exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}


@dataclass(frozen=True, slots=True)
class Viewport:
    """Size of the rendered image and the region of the source that it shows (PS3.18 8.3.5.1.3)."""

    width: int
    height: int
    x: float = 0
    y: float = 0
    source_width: float | None = None
    """Columns of the region; None: up to the edge. Negative: shown mirrored."""
    source_height: float | None = None


@dataclass(frozen=True, slots=True)
class Presentation:
    """What the user agent asks of the rendering."""

    media_type: str = "image/jpeg"
    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = DEFAULT_QUALITY
    is_thumbnail: bool = False


def parse_presentation(query: Mapping[str, str], media_type: str, *, is_thumbnail: bool = False) -> Presentation:
    """Read the rendering query parameters (PS3.18 Table 8.3.5-1).

    Raises
    ------
    BadRequest
        When one is malformed; the message names it.
    """
    return Presentation(
        media_type=media_type,
        window=_parse_window(query["window"]) if query.get("window") else None,
        viewport=_parse_viewport(query["viewport"]) if query.get("viewport") else None,
        quality=_parse_quality(query["quality"]) if query.get("quality") else DEFAULT_QUALITY,
        is_thumbnail=is_thumbnail,
    )


def _parse_window(text: str) -> Window:
    parts = [part.strip() for part in text.split(",")]
    try:
        center, width, name = float(parts[0]), float(parts[1]), parts[2].lower() if len(parts) == 3 else "linear"
    except (ValueError, IndexError):
        raise BadRequest(f"window={text} is not center,width,function as in window=40,400,linear") from None
    if name not in _FUNCTIONS or len(parts) > 3:
        raise BadRequest(f"window={text}: the function is linear, linear-exact or sigmoid")
    return Window(center, width, _FUNCTIONS[name])


def _parse_viewport(text: str) -> Viewport:
    parts = [part.strip() for part in text.split(",")]
    try:
        width, height = int(parts[0]), int(parts[1])
        x, y, source_width, source_height = (float(p) if p else None for p in [*parts[2:], "", "", "", ""][:4])
    except (ValueError, IndexError):
        raise BadRequest(f"viewport={text} is not width,height[,x,y,columns,rows]") from None
    if len(parts) > 6 or not (0 < width <= MAX_VIEWPORT_PIXELS and 0 < height <= MAX_VIEWPORT_PIXELS):
        raise BadRequest(
            f"viewport={text}: width and height are 1 to {MAX_VIEWPORT_PIXELS} pixels, then four numbers at most"
        )
    return Viewport(width, height, x or 0, y or 0, source_width, source_height)


def _parse_quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise BadRequest(f"quality={text} is not 1 to 100")
    return int(text)


def render_frame(
    native: bytes,
    description: PixelDescription,
    attributes: Mapping[str, Any],
    presentation: Presentation,
    *,
    frame_number: int = 1,
    tables: Tables | None = None,
) -> bytes:
    """Render one frame.

    Parameters
    ----------
    native
        The frame as native little endian pixel data that ``description`` describes.
    attributes
        DICOM JSON of the instance: windows, rescale, palette, functional groups.
    tables
        Values of the elements that `grayscale.table_paths` names.

    Raises
    ------
    NotAcceptable
        When the pixels cannot be rendered.
    BadRequest
        When the viewport lies outside the image.
    """
    if description.rows * description.columns > MAX_RENDERED_PIXELS:
        raise NotAcceptable(f"frames of more than {MAX_RENDERED_PIXELS} pixels are not rendered: retrieve them instead")
    if len(native) < description.frame_bytes:
        raise NotAcceptable(f"the frame has {len(native)} bytes instead of {description.frame_bytes}")
    samples = _samples(native, description)
    image = _image(samples, description, attributes, presentation.window, tables or {}, frame_number)
    return _encode(_fit(image, presentation), presentation)


def _samples(native: bytes, description: PixelDescription) -> Array:
    """Native bytes as rows x columns [x samples]."""
    shape = (description.rows, description.columns)
    if description.bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(native, np.uint8), count=description.frame_bits, bitorder="little")
        return bits.reshape(shape)
    flat = np.frombuffer(native, description.dtype, description.samples)
    if description.samples_per_pixel == 1:
        return flat.reshape(shape)
    if description.samples < description.rows * description.columns * description.samples_per_pixel:
        return _upsample_422(flat, description)
    if description.planar_configuration:
        return flat.reshape(description.samples_per_pixel, *shape).transpose(1, 2, 0)
    return flat.reshape(*shape, description.samples_per_pixel)


def _upsample_422(flat: Array, description: PixelDescription) -> Array:
    """Y1 Y2 Cb Cr for two pixels of a row (PS3.3 C.7.6.3.1.2)."""
    pairs = flat.reshape(-1, 4)
    full: Array = np.empty((len(pairs), 2, 3), flat.dtype)
    full[:, :, 0] = pairs[:, :2]
    full[:, :, 1:] = pairs[:, None, 2:]
    return full.reshape(description.rows, description.columns, 3)


def _image(
    samples: Array,
    description: PixelDescription,
    attributes: Mapping[str, Any],
    window: Window | None,
    tables: Tables,
    frame_number: int,
) -> Array:
    photometric = description.photometric_interpretation
    if photometric == "PALETTE COLOR":
        return to_rgb(samples, description, read_palette(attributes, description, tables))
    if samples.ndim == 2:
        return to_gray(samples, description, read_grayscale(attributes, description, tables, frame_number, window))
    if samples.shape[2] != 3:
        raise NotAcceptable(f"{photometric} with {samples.shape[2]} samples per pixel cannot be rendered")
    if description.bits_allocated > 8:
        samples = samples >> max(description.bits_stored - 8, 0)
    colours = samples.astype(np.uint8)
    return _ybr_to_rgb(colours, photometric) if photometric.startswith("YBR") else colours


def _ybr_to_rgb(colours: Array, photometric: str) -> Array:
    """PS3.3 C.7.6.3.1.2; ITU-R BT.601."""
    if photometric.startswith("YBR_FULL"):
        # Pillow's conversion is the one of JFIF, which is that of YBR_FULL.
        return np.asarray(Image.fromarray(np.ascontiguousarray(colours), "YCbCr").convert("RGB"))
    ybr = colours.astype(np.float32) - np.array([16, 128, 128], np.float32)
    matrix = np.array([[1.1644, 0, 1.5960], [1.1644, -0.3917, -0.8130], [1.1644, 2.0173, 0]], np.float32)
    rgb: Array = np.clip(ybr @ matrix.T + 0.5, 0, 255).astype(np.uint8)
    return rgb


def _fit(image: Array, presentation: Presentation) -> Array:
    """Crop, mirror and scale into the viewport, keeping the ratio of the sides."""
    rows, columns = image.shape[:2]
    viewport = presentation.viewport
    if viewport is None:
        if not presentation.is_thumbnail or max(rows, columns) <= THUMBNAIL_PIXELS:
            return image
        viewport = Viewport(THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
    width = columns - viewport.x if viewport.source_width is None else viewport.source_width
    height = rows - viewport.y if viewport.source_height is None else viewport.source_height
    box = _box(viewport, abs(width), abs(height), columns, rows)
    scale = min(viewport.width / (box[2] - box[0]), viewport.height / (box[3] - box[1]))
    size = max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale))
    scaled = Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BILINEAR, box, reducing_gap=2.0)
    fitted = np.asarray(scaled)
    fitted = fitted[:, ::-1] if width < 0 else fitted
    return fitted[::-1] if height < 0 else fitted


def _box(viewport: Viewport, width: float, height: float, columns: int, rows: int) -> tuple[float, float, float, float]:
    left, upper = max(viewport.x, 0), max(viewport.y, 0)
    right, lower = min(viewport.x + width, columns), min(viewport.y + height, rows)
    if right - left <= 0 or lower - upper <= 0:
        raise BadRequest(f"viewport: the region lies outside the image of {columns} x {rows} pixels")
    return left, upper, right, lower


def _encode(image: Array, presentation: Presentation) -> bytes:
    image = np.ascontiguousarray(image)
    if presentation.media_type == "image/png":
        return bytes(imagecodecs.png_encode(image, level=3))
    if presentation.media_type == "image/gif":
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "GIF")
        return buffer.getvalue()
    return bytes(imagecodecs.jpeg8_encode(image, level=presentation.quality))
