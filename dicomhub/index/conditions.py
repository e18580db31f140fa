"""Matching criteria as SQL on the columns of the index.

A condition in SQL lets through every row that `dicomhub.dicom.matcher` would: what it lets through besides, the matcher
sorts out afterwards, unless the condition is exact. Exact ones may stand in EXISTS and be counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, UnaryExpression, and_, false, or_, true
from sqlalchemy.sql.operators import custom_op

from dicomhub.dicom.attributes import vr_of
from dicomhub.dicom.criteria import (
    CombinedRange,
    Criterion,
    EmptyValue,
    FuzzyName,
    Match,
    MultipleValue,
    Range,
    SequenceMatch,
    SingleValue,
    UIDList,
    Universal,
    Wildcard,
    parse_number,
)
from dicomhub.dicom.matcher import name_criteria
from dicomhub.dicom.names import COMPONENT_GROUPS, normalise_person_name
from dicomhub.index import columns
from dicomhub.index.schema import series, study, version

SQLITE = "sqlite"

LIST_MAX = 10_000
"""Values in one list that SQL is asked for; databases take 32,766 in all. Longer lists are left to the matcher."""
ALTERNATIVES_MAX = 50
"""The same where each value is a condition of its own; SQLite limits the depth of expressions to 1000."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A criterion in SQL."""

    clause: ColumnElement[bool]
    is_exact: bool
    """Whether it lets through nothing but matches."""


UNDECIDED = Condition(true(), is_exact=False)

_Column = ColumnElement[Any]
Terms = Callable[[Criterion, _Column, str], Condition]
"""Makes a condition on a column, for a dialect."""


def condition(match: Match, dialect: str, table: Table = study, *, leads: bool = True) -> Condition:
    """The condition for one match, on columns of the table of its level.

    Parameters
    ----------
    dialect
        ``sqlite`` or ``postgresql``.
    table
        Whose columns to take for UIDs, which tables of lower levels have too.
    leads
        Whether an index on the column may lead the search. Not where rows of one study are wanted: without statistics
        SQLite would rather go through all CT series of the archive.
    """
    tag = match.path[0]
    if isinstance(match.criterion, Universal):
        return Condition(true(), is_exact=True)
    if tag == _REQUEST_ATTRIBUTES_SEQUENCE:
        return _request_attributes(match, dialect)
    if len(match.path) > 1 or match.vr != vr_of(tag):
        return UNDECIDED
    if tag in _UIDS:
        return _text(match.criterion, table.c[_UIDS[tag]], dialect)
    if tag in _NAMES:
        return _name(match.criterion, _NAMES[tag], dialect)
    if tag in _COLUMNS:
        column, terms = _COLUMNS[tag]
        return terms(match.criterion, column if leads else _unindexed(column, dialect), dialect)
    return UNDECIDED


def _unindexed(column: _Column, dialect: str) -> _Column:
    """The same value, for which SQLite uses no index: ``+column``."""
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type) if dialect == SQLITE else column


def is_exact(match: Match) -> bool:
    """Whether SQL alone decides the match."""
    return condition(match, SQLITE, version).is_exact


def is_selective(match: Match) -> bool:
    """Whether a match names entities, so that it should be looked up first."""
    return match.path[0] in _UIDS and isinstance(match.criterion, (SingleValue, UIDList))


# ---------------------------------------------------------------------------------------------------- kinds of column


def _text(criterion: Criterion, column: _Column, dialect: str) -> Condition:
    clause = _text_clause(criterion, column, dialect)
    return UNDECIDED if clause is None else Condition(clause, not isinstance(criterion, CombinedRange))


def _text_clause(criterion: Criterion, column: _Column, dialect: str) -> ColumnElement[bool] | None:
    """A column that holds the first value in its normal form, NULL when there is none."""
    match criterion:
        case SingleValue(value):
            return column == value
        case UIDList(values) if len(values) <= LIST_MAX:
            return column.in_(values)
        case MultipleValue(values) if len(values) <= ALTERNATIVES_MAX:
            return and_(*(column == value for value in values))
        case Wildcard(pattern):
            return _wildcard(column, pattern, dialect)
        case Range(first, last):
            return _range(column, first, last)
        case CombinedRange(dates=dates):
            return _range(column, dates.first, dates.last)
        case EmptyValue():
            return column.is_(None)
    return None


def _range(column: _Column, first: str, last: str) -> ColumnElement[bool]:
    bounds = [column >= first] if first else []
    if last:
        bounds.append(column <= last)
    return and_(*bounds) if bounds else column.is_not(None)


def _wildcard(column: _Column, pattern: str, dialect: str) -> ColumnElement[bool]:
    """``*`` and ``?``, case-sensitive; with the range of its literal beginning, which an index can serve."""
    clauses = [_like(column, pattern, dialect)]
    beginning = re.split(r"[*?]", pattern, maxsplit=1)[0]
    if beginning:
        clauses += [column >= beginning, column < beginning + "\U0010ffff"]
    return and_(*clauses)


def _like(column: _Column, pattern: str, dialect: str) -> ColumnElement[bool]:
    """SQLite's LIKE takes ``a`` for ``A``, its GLOB does not and speaks DICOM but for brackets."""
    if dialect == SQLITE:
        return column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
    escaped = re.sub(r"([\\%_])", r"\\\1", pattern)
    return column.like(escaped.replace("*", "%").replace("?", "_"), escape="\\")


def _contains(column: _Column, text: str, dialect: str) -> ColumnElement[bool]:
    """Whether the column contains ``text`` as it is."""
    if dialect == SQLITE:
        escaped = re.sub(r"([\[*?])", r"[\1]", text)
        return column.op("GLOB", is_comparison=True)(f"*{escaped}*")
    escaped = re.sub(r"([\\%_])", r"\\\1", text)
    return column.like(f"%{escaped}%", escape="\\")


def _integer(criterion: Criterion, column: _Column, dialect: str) -> Condition:
    """A column of whole numbers; NULL also for values that are none, so those rows are looked at."""
    match criterion:
        case EmptyValue():
            return Condition(column.is_(None), is_exact=False)
        case SingleValue(value):
            values: tuple[str, ...] = (value,)
        case UIDList(several) if len(several) <= LIST_MAX:
            values = several
        case _:
            return UNDECIDED
    numbers = [int(n) for text in values if (n := parse_number(text)) is not None and abs(n) < 2**63]
    return Condition(or_(column.in_(numbers), column.is_(None)), is_exact=False)


def _several(criterion: Criterion, column: _Column, dialect: str) -> Condition:
    """A column of several values, ``\\A\\B\\``."""
    match criterion:
        case SingleValue(value):
            return Condition(_contains(column, f"\\{value}\\", dialect), is_exact=True)
        case UIDList(values) if len(values) <= ALTERNATIVES_MAX:
            return Condition(or_(false(), *(_contains(column, f"\\{v}\\", dialect) for v in values)), is_exact=True)
        case MultipleValue(values) if len(values) <= ALTERNATIVES_MAX:
            return Condition(and_(true(), *(_contains(column, f"\\{v}\\", dialect) for v in values)), is_exact=True)
        case EmptyValue():
            return Condition(column.is_(None), is_exact=True)
        case Wildcard():
            return Condition(column.is_not(None), is_exact=False)
    return UNDECIDED


# ------------------------------------------------------------------------------------------------------- person names


def _name(criterion: Criterion, groups: Sequence[_Column], dialect: str) -> Condition:
    match criterion:
        case EmptyValue():
            return Condition(and_(*(column.is_(None) for column in groups)), is_exact=True)
        case FuzzyName(words) if len(words) <= ALTERNATIVES_MAX:
            normal = [normalise_person_name(word) for word in words]
            return Condition(and_(*(_any_contains(groups, word, dialect) for word in normal)), is_exact=False)
        case SingleValue() | Wildcard() | UIDList():
            alternatives = name_criteria(criterion)
            if len(alternatives) <= ALTERNATIVES_MAX:
                return _any(_name_groups(criteria, groups, dialect) for criteria in alternatives)
    return UNDECIDED


def _any_contains(groups: Sequence[_Column], word: str, dialect: str) -> ColumnElement[bool]:
    return or_(*(_contains(column, word, dialect) for column in groups))


def _name_groups(criteria: list[Criterion], groups: Sequence[_Column], dialect: str) -> Condition:
    """One criterion is for any group, several are for one group each."""
    if len(criteria) == 1:
        return _any(_text(criteria[0], column, dialect) for column in groups)
    wanted = [_text(c, g, dialect) for c, g in zip(criteria, groups, strict=False) if not isinstance(c, Universal)]
    return Condition(and_(*(one.clause for one in wanted)), is_exact=True) if wanted else UNDECIDED


def _any(conditions: Iterable[Condition]) -> Condition:
    found = list(conditions)
    return Condition(or_(*(one.clause for one in found)), all(one.is_exact for one in found))


# ------------------------------------------------------------------------------------------------- request attributes


def _request_attributes(match: Match, dialect: str) -> Condition:
    """Items of Request Attributes Sequence: two of their attributes have columns, of all items together."""
    _, *rest = match.path
    if rest:
        inner: tuple[Match, ...] = (Match(tuple(rest), match.vr, match.criterion),)
    elif isinstance(match.criterion, SequenceMatch):
        inner = match.criterion.matches
    else:
        return UNDECIDED
    clauses = [
        _several(one.criterion, _REQUEST_COLUMNS[one.path[0]], dialect).clause
        for one in inner
        if len(one.path) == 1 and one.path[0] in _REQUEST_COLUMNS and not isinstance(one.criterion, EmptyValue)
    ]
    return Condition(and_(*clauses), is_exact=False) if clauses else UNDECIDED


# ------------------------------------------------------------------------------------------------------------- tables

_REQUEST_ATTRIBUTES_SEQUENCE = 0x00400275
_REQUEST_COLUMNS: Mapping[int, Column[Any]] = {
    0x00400009: series.c.scheduled_procedure_step_id,
    0x00401001: series.c.requested_procedure_id,
}
_GROUPS = [group.lower() for group in COMPONENT_GROUPS]
_NAMES: Mapping[int, Sequence[_Column]] = {
    0x00100010: [study.c[f"patient_name_{group}"] for group in _GROUPS],
    0x00080090: [study.c[f"referring_physician_name_{group}"] for group in _GROUPS],
}
_KINDS: Mapping[Any, Terms] = {
    columns.text: _text,
    columns.date: _text,
    columns.time: _text,
    columns.integer: _integer,
}


def _described() -> dict[int, tuple[Column[Any], Terms]]:
    """The columns of `dicomhub.index.columns` by tag."""
    tables = ((study, columns.STUDY_COLUMNS), (series, columns.SERIES_COLUMNS), (version, columns.INSTANCE_COLUMNS))
    return {
        int(tag, 16): (table.c[name], _KINDS[convert])
        for table, described in tables
        for name, tag, convert in described
        if convert in _KINDS
    }


_COLUMNS: Mapping[int, tuple[Column[Any], Terms]] = {
    **_described(),
    0x00080061: (study.c.modalities_in_study, _several),
    0x00080062: (study.c.sop_classes_in_study, _several),
    0x00201206: (study.c.number_of_study_related_series, _integer),
    0x00201208: (study.c.number_of_study_related_instances, _integer),
    0x00201209: (series.c.number_of_series_related_instances, _integer),
    0x00080016: (version.c.sop_class_uid, _text),
    0x00083002: (version.c.transfer_syntax_uid, _text),
}
_UIDS: Mapping[int, str] = {
    0x0020000D: "study_instance_uid",
    0x0020000E: "series_instance_uid",
    0x00080018: "sop_instance_uid",
}
