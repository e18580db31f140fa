"""Search transaction, QIDO-RS (PS3.18 10.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import orjson
from aiohttp import web

from dicomhub.archive.search import SearchResult, search
from dicomhub.dicom.levels import Attributes
from dicomhub.dicom.media_types import choose_metadata
from dicomhub.dicom.model import Level
from dicomhub.web.context import actor
from dicomhub.web.dicomweb.resource import accept
from dicomhub.web.dicomweb.search_parameters import parse_parameters
from dicomhub.web.keys import ARCHIVE
from dicomhub.web.urls import base_url

SPECIFIC_CHARACTER_SET, RETRIEVE_URL = "00080005", "00081190"
STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID = "0020000D", "0020000E", "00080018"

BODY_MAX = 64 * 1024**2
"""Bytes of a response after which no further results are added."""

UTF_8 = {"vr": "CS", "Value": ["ISO_IR 192"]}
"""Specific Character Set (0008,0005) of every result: JSON is UTF-8 (PS3.18 F.2), whatever the instance was."""

MORE_RESULTS = (
    "The number of results exceeded the maximum supported by the server. Additional results can be requested."
)


async def studies(request: web.Request) -> web.Response:
    """PS3.18 10.6.1.1: all studies."""
    return await _search(request, Level.STUDY)


async def series(request: web.Request) -> web.Response:
    """PS3.18 10.6.1.1: all series, or those of a study."""
    return await _search(request, Level.SERIES)


async def instances(request: web.Request) -> web.Response:
    """PS3.18 10.6.1.1: all instances, or those of a study or series."""
    return await _search(request, Level.INSTANCE)


async def _search(request: web.Request, level: Level) -> web.Response:
    """PS3.18 10.6.3: 200 with a JSON array, empty when nothing matches; 400 for a query that cannot be understood."""
    media_type = choose_metadata(accept(request)).media_type
    parameters = parse_parameters(level, request.match_info, request.query)
    archive = request.app[ARCHIVE]
    query = parameters.query(archive.config.query_max_results)
    result = await search(archive, query, actor(request))
    body, is_whole = await _body(result, _retrieve_url(base_url(request), level))
    warnings = list(dict.fromkeys(parameters.warnings))
    if not is_whole or (result.is_truncated and query.limit != parameters.limit):
        warnings.append(MORE_RESULTS)
    response = web.Response(body=body)
    response.headers["Content-Type"] = media_type
    _add_warnings(response, base_url(request), warnings)
    return response


async def _body(result: SearchResult, retrieve_url: Callable[[Attributes], str]) -> tuple[bytes, bool]:
    """The JSON array, and whether it has all results; attributes are in the order of their tags (PS3.18 F.2.2)."""
    encoded: list[bytes] = []
    size = 0
    async for page in result.pages:
        if size > BODY_MAX:
            return _array(encoded), False
        for row in page:
            row[SPECIFIC_CHARACTER_SET] = UTF_8
            row[RETRIEVE_URL] = {"vr": "UR", "Value": [retrieve_url(row)]}
            encoded.append(orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
            size += len(encoded[-1])
    return _array(encoded), True


def _array(objects: list[bytes]) -> bytes:
    return b"[" + b",".join(objects) + b"]"


def _retrieve_url(base: str, level: Level) -> Callable[[Attributes], str]:
    """Makes the Retrieve URL (0008,1190) of a result."""

    def study_url(row: Attributes) -> str:
        return f"{base}/studies/{row[STUDY_INSTANCE_UID]['Value'][0]}"

    def series_url(row: Attributes) -> str:
        return f"{study_url(row)}/series/{row[SERIES_INSTANCE_UID]['Value'][0]}"

    def instance_url(row: Attributes) -> str:
        return f"{series_url(row)}/instances/{row[SOP_INSTANCE_UID]['Value'][0]}"

    return {Level.STUDY: study_url, Level.SERIES: series_url, Level.INSTANCE: instance_url}[level]


def _add_warnings(response: web.Response, service: str, texts: Iterable[str]) -> None:
    """PS3.18 8.3.4.4: ``Warning: 299 <service>: <text>``."""
    for text in texts:
        response.headers.add("Warning", f'299 {service}: "{text}"')
