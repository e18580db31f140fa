"""The rows of the table: what is done, how it is measured, and what is to be reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conformance.benchmarks import checks, load
from conformance.benchmarks.load import Measured
from conformance.servers import Server
from conformance.synthetic import Image, Study, make_ct_study

SERIES, IMAGES_PER_SERIES = 5, 100


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it; ``full`` is what the figures are defined for."""

    name: str
    store_images_per_series: int
    """Images of each of the five series in the C-STORE rows."""
    latency_requests: int
    wrk_s: int
    repeats: int
    """Runs of each row; the median counts."""


QUICK = Scale("quick", store_images_per_series=20, latency_requests=7, wrk_s=3, repeats=1)
FULL = Scale("full", store_images_per_series=100, latency_requests=40, wrk_s=10, repeats=3)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The images that are sent: the same files to every server."""

    large: Study
    """512 x 512 x 16 bit: 512 KB of pixels."""
    small: Study
    """128 x 128 x 16 bit: 32 KB of pixels."""
    scale: Scale


def make_inputs(folder: Path, scale: Scale, seed: int) -> Inputs:
    """Generate both studies."""
    large = make_ct_study(folder / "512k", matrix=512, series=SERIES, images=IMAGES_PER_SERIES, seed=seed)
    small = make_ct_study(
        folder / "32k", matrix=128, series=SERIES, images=scale.store_images_per_series, seed=seed + 1
    )
    return Inputs(large, small, scale)


@dataclass(frozen=True, slots=True)
class AtLeast:
    """So many per second."""

    value: float

    def reached(self, ours: float, times: float | None) -> bool:
        return ours >= self.value

    def __str__(self) -> str:
        return f"≥ {self.value:g}/s"


@dataclass(frozen=True, slots=True)
class Times:
    """So many times as fast as the peer."""

    factor: float

    def reached(self, ours: float, times: float | None) -> bool:
        return times is not None and times >= self.factor

    def __str__(self) -> str:
        return f"≥ {self.factor:g}x as fast"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    """Short name for ``--only`` and the results file."""
    text: str
    unit: str
    """``inst/s``, ``requests/s`` (more is better) or ``ms`` (less is better)."""
    target: AtLeast | Times
    measure: Callable[[Server, Inputs], Measured]
    check: Callable[[Server, Inputs], None]
    """Whether what was measured is right; not part of the measurement."""
    stores: bool = False
    """Whether it starts from an empty archive; the others read what the ``stow`` row has stored."""

    def figure(self, measured: Measured) -> float:
        """The figure of the table."""
        return measured.median_s * 1000 if self.unit == "ms" else measured.per_second

    def times_as_fast(self, ours: float, peer: float) -> float:
        """Above 1: we are faster."""
        return peer / ours if self.unit == "ms" else ours / peer


def _store_images(study: Study, scale: Scale) -> list[Image]:
    """The images of the C-STORE rows: as many of each series as the scale says."""
    return [
        image
        for series in study.series
        for image in [each for each in study.images if each.series == series][: scale.store_images_per_series]
    ]


def cstore_512k(server: Server, inputs: Inputs) -> Measured:
    return load.storescu(server, _store_images(inputs.large, inputs.scale))


def cstore_32k(server: Server, inputs: Inputs) -> Measured:
    return load.storescu(server, _store_images(inputs.small, inputs.scale))


def cstore_512k_5(server: Server, inputs: Inputs) -> Measured:
    return load.storescu(server, _store_images(inputs.large, inputs.scale), associations=5)


def large_stored(server: Server, inputs: Inputs) -> None:
    checks.all_stored(server, _store_images(inputs.large, inputs.scale))


def small_stored(server: Server, inputs: Inputs) -> None:
    checks.all_stored(server, _store_images(inputs.small, inputs.scale))


def stow(server: Server, inputs: Inputs) -> Measured:
    return load.stow(server, load.stow_bodies(inputs.large.images, 10), connections=4)


def study_stored(server: Server, inputs: Inputs) -> None:
    checks.all_stored(server, inputs.large.images)
    frames_right(server, inputs)


def frames_right(server: Server, inputs: Inputs) -> None:
    checks.frames_equal(server, inputs.large, seed=1)


def _series_paths(inputs: Inputs, resource: str) -> list[str]:
    return [f"/studies/{inputs.large.uid}/series/{series}/{resource}" for series in inputs.large.series]


def qido(server: Server, inputs: Inputs) -> Measured:
    paths = _series_paths(inputs, "instances")
    return load.latency(server, paths, checks.DICOM_JSON, inputs.scale.latency_requests, IMAGES_PER_SERIES)


def qido_complete(server: Server, inputs: Inputs) -> None:
    checks.series_listed(server, inputs.large)


def metadata(server: Server, inputs: Inputs) -> Measured:
    paths = _series_paths(inputs, "metadata")
    return load.latency(server, paths, checks.DICOM_JSON, inputs.scale.latency_requests, IMAGES_PER_SERIES)


def metadata_4(server: Server, inputs: Inputs) -> Measured:
    paths = _series_paths(inputs, "metadata")
    return load.wrk(server, paths, checks.DICOM_JSON, connections=4, duration_s=inputs.scale.wrk_s)


def metadata_complete(server: Server, inputs: Inputs) -> None:
    checks.metadata_complete(server, inputs.large)


def frames(server: Server, inputs: Inputs) -> Measured:
    paths = [image.url + "/frames/1" for image in inputs.large.images]
    return load.wrk(server, paths, checks.AS_STORED, connections=8, duration_s=inputs.scale.wrk_s)


ROWS = (
    Row(
        "cstore-512k", "C-STORE, storescu, 1 association, 512 KB", "inst/s", AtLeast(180),
        cstore_512k, large_stored, stores=True,
    ),
    Row(
        "cstore-32k", "C-STORE, storescu, 1 association, 32 KB", "inst/s", AtLeast(250),
        cstore_32k, small_stored, stores=True,
    ),
    Row(
        "cstore-512k-5", "C-STORE, storescu, 5 associations at once", "inst/s", Times(2.5),
        cstore_512k_5, large_stored, stores=True,
    ),
    Row("stow", "STOW-RS, 4 clients, 10 per request", "inst/s", Times(1), stow, study_stored, stores=True),
    Row("qido", "QIDO-RS instances of a 100-image series", "ms", Times(8), qido, qido_complete),
    Row("metadata", "metadata of a 100-image series", "ms", Times(8), metadata, metadata_complete),
    Row("metadata-4", "the same, 4 connections", "requests/s", Times(8), metadata_4, metadata_complete),
    Row("frames", "frames/1 of a CT, 8 connections", "requests/s", Times(1.5), frames, frames_right),
)  # fmt: skip
