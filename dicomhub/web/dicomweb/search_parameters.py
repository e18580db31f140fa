"""The query parameters of a search (PS3.18 8.3.4), read into a query and what has to be said about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from multidict import MultiMapping

from dicomhub.dicom.attributes import Path, UnknownAttribute, default_include, nest, parse_path, vr_of
from dicomhub.dicom.criteria import Criterion, Match, Universal, parse_criterion
from dicomhub.dicom.levels import level_of
from dicomhub.dicom.matching import Include, Query
from dicomhub.dicom.model import Level
from dicomhub.errors import InvalidQuery

STUDY_INSTANCE_UID = (0x0020000D,)
SERIES_INSTANCE_UID = (0x0020000E,)

IGNORED = frozenset({"", "_", "accept", "charset"})
"""Parameters of other kinds, and what clients add to get past caches: nothing needs to be said about them."""

MAX_PARAMETERS = 1_000
"""Parameters in one request."""

_UNSAFE_IN_HEADER = re.compile(r"[^\w.\-]+", re.ASCII)


@dataclass
class Parameters:
    """A search as its URL describes it."""

    level: Level
    matches: list[Match] = field(default_factory=list)
    included: set[Path] = field(default_factory=set)
    includes_all: bool = False
    limit: int | None = None
    offset: int = 0
    fuzzy: bool = False
    multiple: bool = False
    warnings: list[str] = field(default_factory=list)
    """Texts for ``Warning`` header fields."""

    def query(self, max_results: int) -> Query:
        """The search, with at most ``max_results`` results."""
        limit = max_results if self.limit is None else min(self.limit, max_results)
        return Query(
            level=self.level,
            matches=nest(match for match in self.matches if not isinstance(match.criterion, Universal)),
            include=self._include(),
            limit=limit,
            offset=self.offset,
            fuzzy=self.fuzzy,
        )

    def _include(self) -> Include:
        """The attributes of PS3.18 10.6.3.3; all of them for ``includefield=all``."""
        if self.includes_all:
            return "all"
        given = {match.path for match in self.matches if not isinstance(match.criterion, Universal)}
        default = default_include(
            self.level, study_given=STUDY_INSTANCE_UID in given, series_given=SERIES_INSTANCE_UID in given
        )
        asked = {match.path for match in self.matches if self._is_returned(match)}
        return default | self.included | asked

    def _is_returned(self, match: Match) -> bool:
        """Keys of the search's own level are returned; an empty key is a wish to have it returned."""
        return level_of(match.path[0]) is self.level or isinstance(match.criterion, Universal)


def parse_parameters(level: Level, path: Mapping[str, str], parameters: MultiMapping[str]) -> Parameters:
    """Read the parts of the path that are UIDs, and the query parameters.

    Unknown parameters are ignored and said so (PS3.18 8.3.1 lets them pass; a misspelt key must not go unnoticed).

    Raises
    ------
    InvalidQuery
        A value that its attribute cannot have, or a number that is none; the message names the parameter.
    """
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidQuery(f"the query has {len(parameters)} parameters; at most {MAX_PARAMETERS} are read")
    found = Parameters(level)
    for name, tag in (("study", STUDY_INSTANCE_UID), ("series", SERIES_INSTANCE_UID)):
        if name in path:
            found.matches.append(Match(tag, "UI", _criterion(f"{{{name}}} in the path", "UI", path[name])))
    found.multiple = _boolean("multiplevaluematching", parameters)
    for name, value in parameters.items():
        _take(found, name, value)
    return found


def _take(found: Parameters, name: str, value: str) -> None:
    match name.lower():
        case "includefield":
            _take_include(found, value)
        case "limit":
            found.limit = _number(name, value)
        case "offset":
            found.offset = _number(name, value)
        case "fuzzymatching":
            found.fuzzy = _truth(name, value)
        case "multiplevaluematching" | "emptyvaluematching":
            _truth(name, value)  # "" as a value means empty anyway: no attribute can hold it
        case ignored if ignored in IGNORED:
            pass
        case _:
            _take_match(found, name, value)


def _take_match(found: Parameters, name: str, value: str) -> None:
    try:
        path = parse_path(name)
    except UnknownAttribute:
        found.warnings.append(f"The parameter {_safe(name)} is not known and was ignored")
        return
    vr = vr_of(path[-1])
    if vr == "SQ" and not value.strip():
        found.matches.append(Match(path, vr, Universal()))
        return
    found.matches.append(Match(path, vr, _criterion(name, vr, value, multiple=found.multiple)))


def _take_include(found: Parameters, value: str) -> None:
    """``includefield``: a list, several parameters, or ``all`` (PS3.18 8.3.4.3)."""
    for name in filter(None, (part.strip() for part in value.split(","))):
        if name.lower() == "all":
            found.includes_all = True
            continue
        try:
            found.included.add(parse_path(name))
        except UnknownAttribute:
            found.warnings.append(f"The attribute {_safe(name)} of includefield is not known and was ignored")


def _criterion(name: str, vr: str, value: str, *, multiple: bool = False) -> Criterion:
    try:
        return parse_criterion(vr, value, multiple=multiple)
    except InvalidQuery as error:
        raise InvalidQuery(f"{name[:80]}: {error.message}") from error


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise InvalidQuery(f"{name}={value[:80]!r}: write a whole number, 0 or more")
    return int(value)


def _boolean(name: str, parameters: MultiMapping[str]) -> bool:
    return any(_truth(key, value) for key, value in parameters.items() if key.lower() == name)


def _truth(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise InvalidQuery(f"{name}={value[:80]!r}: write true or false")
    return value.lower() == "true"


def _safe(name: str) -> str:
    """A name from the request as it may stand in a header field."""
    return _UNSAFE_IN_HEADER.sub("?", name)[:64]
