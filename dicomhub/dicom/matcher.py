"""The plain matcher of PS3.4 C.2.2.2 on DICOM JSON: what the index's SQL has to agree with.

Values are compared as follows. Text: without padding, case-sensitive. Person names (PN): without case and accents in
every script, see `dicomhub.dicom.names`; a key without ``=`` matches any component group, one with it matches group by
group. Numbers: by value. Of an attribute that has one value by PS3.6 only the first counts, whatever was stored.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VM

from dicomhub.dicom.criteria import (
    NUMBER_VRS,
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
    normalise_date,
    normalise_date_time,
    normalise_time,
    parse_criterion,
    parse_number,
)
from dicomhub.dicom.levels import Attributes, key
from dicomhub.dicom.names import COMPONENT_GROUPS, normalise_person_name
from dicomhub.dicom.private import find_tag, is_private
from dicomhub.errors import InvalidQuery

Predicate = Callable[[Attributes], bool]
ElementTest = Callable[[Attributes | None], bool]


def matches(query_matches: Iterable[Match], attributes: Attributes) -> bool:
    """Whether a data set, as DICOM JSON, meets all conditions."""
    return all(_compile(match)(attributes) for match in query_matches)


def compile_matches(query_matches: Sequence[Match]) -> Predicate:
    """`matches` with its first argument fixed, faster when it is asked often."""
    predicates = [_compile(match) for match in query_matches]
    if len(predicates) < 2:
        return predicates[0] if predicates else _always
    return lambda attributes: all(predicate(attributes) for predicate in predicates)


def _compile(match: Match) -> Predicate:
    """A predicate on data sets for one condition."""
    if isinstance(match.criterion, Universal):
        return lambda attributes: True
    tag, *rest = match.path
    if rest:
        inner = _compile(replace(match, path=tuple(rest)))
        test = _any_item(inner)
    elif isinstance(match.criterion, SequenceMatch):
        test = _any_item(compile_matches(match.criterion.matches)) if match.criterion.matches else _always
    elif isinstance(match.criterion, CombinedRange):
        return _combined_range(key(tag), match.criterion)
    else:
        test = _element_test(match, has_one_value(tag))
    if match.creator and is_private(tag):
        return _private(tag, match.creator, test)
    name = key(tag)
    return lambda attributes: test(attributes.get(name))


def _always(_: Attributes | None) -> bool:
    return True


def _private(tag: int, creator: str, test: ElementTest) -> Predicate:
    def predicate(attributes: Attributes) -> bool:
        name = find_tag(attributes, tag, creator)
        return test(attributes.get(name) if name is not None else None)

    return predicate


def _any_item(predicate: Predicate) -> ElementTest:
    def test(element: Attributes | None) -> bool:
        items = element.get("Value") if element is not None else None
        return any(isinstance(item, dict) and predicate(item) for item in items or ())

    return test


@lru_cache(maxsize=4096)
def has_one_value(tag: int) -> bool:
    """Whether PS3.6 gives the attribute a value multiplicity of 1."""
    try:
        return dictionary_VM(tag) == "1"
    except KeyError:
        return False


def _element_test(match: Match, one_value: bool) -> ElementTest:
    criterion = match.criterion
    if match.vr == "UN":
        return _unknown_test(criterion, one_value)
    if isinstance(criterion, EmptyValue):
        return lambda element: not _present(element, match.vr, one_value)
    if isinstance(criterion, MultipleValue):
        tests = [_value_test(match.vr, SingleValue(value)) for value in criterion.values]
        return lambda element: all(any(map(test, _values(element, one_value))) for test in tests)
    test = _value_test(match.vr, criterion)
    return lambda element: any(map(test, _values(element, one_value)))


def _values(element: Attributes | None, one_value: bool) -> Sequence[Any]:
    values: Sequence[Any] = element.get("Value") or () if element is not None else ()
    return values[:1] if one_value else values


def _present(element: Attributes | None, vr: str, one_value: bool) -> bool:
    """Whether an attribute has a value: not empty, only padding, or a name without components."""
    if element is None:
        return False
    if "BulkDataURI" in element or element.get("InlineBinary"):
        return True
    if vr == "PN":
        return any(any(_name_groups(value)) for value in _values(element, one_value))
    return any(value is not None and clean(value) for value in _values(element, one_value))


def clean(value: Any) -> str:
    """A value as text without padding, as the index keeps it; numbers that JSON carries as such become text."""
    return (value if isinstance(value, str) else str(value)).replace("\0", "").strip(" ")


def _unknown_test(criterion: Criterion, one_value: bool) -> ElementTest:
    """The VR of the stored element says how the key is to be read."""

    def test(element: Attributes | None) -> bool:
        vr = element.get("vr", "UN") if element is not None else "UN"
        if element is not None and vr == "UN":
            return _unknown_text_test(criterion, one_value)(element)
        try:
            parsed = parse_criterion(vr, _text_of(criterion)) if vr != "UN" else criterion
        except InvalidQuery:
            return False
        return _element_test(Match((), "LO" if vr == "UN" else vr, parsed), one_value)(element)

    return test


def _unknown_text_test(criterion: Criterion, one_value: bool) -> ElementTest:
    """An element of unknown VR is taken for text when its bytes are text."""

    def test(element: Attributes | None) -> bool:
        encoded = element.get("InlineBinary") if element is not None else None
        if isinstance(encoded, str):
            try:
                text = base64.b64decode(encoded).decode("utf-8")
            except (binascii.Error, UnicodeDecodeError):
                return False
            element = {"Value": [part.strip(" \0") for part in text.split("\\")]}
        return _element_test(Match((), "LO", criterion), one_value)(element)

    return test


def _text_of(criterion: Criterion) -> str:
    """A criterion of unknown VR as it was written."""
    match criterion:
        case SingleValue(value):
            return value
        case Wildcard(pattern):
            return pattern
        case EmptyValue():
            return '""'
        case UIDList(values) | MultipleValue(values):
            return "\\".join(values)
    return ""


def _value_test(vr: str, criterion: Criterion) -> Callable[[Any], bool]:
    """A test on one value."""
    if vr == "PN":
        return _name_test(criterion)
    if vr in NUMBER_VRS:
        return _number_test(criterion)
    normal = {"DA": normalise_date, "TM": normalise_time, "DT": normalise_date_time}.get(vr, _same)
    test = text_test(criterion)
    return lambda value: value is not None and bool(text := normal(clean(value))) and test(text)


def _same(text: str) -> str:
    return text


def text_test(criterion: Criterion) -> Callable[[str], bool]:
    """A test on text in its normal form."""
    match criterion:
        case SingleValue(wanted):
            return lambda text: text == wanted
        case UIDList(values):
            wanted_values = frozenset(values)
            return lambda text: text in wanted_values
        case Wildcard(pattern):
            compiled = compile_wildcard(pattern)
            return lambda text: compiled.fullmatch(text) is not None
        case Range(first, last):
            return lambda text: first <= text and (not last or text <= last)
    raise InvalidQuery(f"{type(criterion).__name__} does not apply to text")


@lru_cache(maxsize=256)
def compile_wildcard(pattern: str) -> re.Pattern[str]:
    """A pattern of PS3.4 C.2.2.2.4 as a regular expression that takes time proportional to its length times the text's.

    Between two ``*`` the first occurrence is as good as any later one, so nothing is tried twice.
    """
    first, *others = ["".join("." if c == "?" else re.escape(c) for c in part) for part in re.split(r"\*+", pattern)]
    if not others:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{part})" for part in others[:-1])
    return re.compile(f"{first}{middle}.*{others[-1]}", re.DOTALL)


def _number_test(criterion: Criterion) -> Callable[[Any], bool]:
    match criterion:
        case SingleValue(value):
            wanted = frozenset((parse_number(value),))
        case UIDList(values):
            wanted = frozenset(map(parse_number, values))
        case _:
            raise InvalidQuery(f"{type(criterion).__name__} does not apply to numbers")
    return lambda value: (number := parse_number(value)) is not None and number in wanted


# ------------------------------------------------------------------------------------------------------- person names


def _name_groups(value: Any) -> list[str]:
    """The three component groups in the form that is compared; empty where absent."""
    if not isinstance(value, dict):
        return ["", "", ""]
    return [
        normalise_person_name(clean(group)) if isinstance(group := value.get(name), str) else ""
        for name in COMPONENT_GROUPS
    ]


def name_tests(text: str, make: Callable[[str], Criterion]) -> list[Criterion]:
    """Criteria by component group of a key with ``=``; for one without, the one criterion that any group may meet."""
    groups = [normalise_person_name(group) for group in text.split("=")[:3]]
    return [make(group) if group.strip("*") else Universal() for group in groups]


def name_criteria(criterion: Criterion) -> list[list[Criterion]]:
    """Alternatives, any of which is a list of criteria by component group, or of one that any group may meet."""
    match criterion:
        case SingleValue(value):
            return [name_tests(value, SingleValue)]
        case Wildcard(pattern):
            return [name_tests(pattern, Wildcard)]
        case UIDList(values):
            return [name_tests(value, SingleValue) for value in values]
    raise InvalidQuery(f"{type(criterion).__name__} does not apply to person names")


def _name_test(criterion: Criterion) -> Callable[[Any], bool]:
    if isinstance(criterion, FuzzyName):
        return _fuzzy_test(criterion)
    alternatives = [_groups_test(criteria) for criteria in name_criteria(criterion)]
    return lambda value: any(test(groups) for groups in (_name_groups(value),) for test in alternatives)


def _groups_test(criteria: list[Criterion]) -> Callable[[list[str]], bool]:
    tests = [_group_test(criterion) for criterion in criteria]
    if len(tests) == 1:
        return lambda groups: any(map(tests[0], groups))
    return lambda groups: all(test(group) for test, group in zip(tests, groups, strict=False))


def _group_test(criterion: Criterion) -> Callable[[str], bool]:
    if isinstance(criterion, Universal):
        return lambda group: True
    test = text_test(criterion)
    return lambda group: bool(group) and test(group)


def _fuzzy_test(criterion: FuzzyName) -> Callable[[Any], bool]:
    wanted = [normalise_person_name(word) for word in criterion.words]

    def test(value: Any) -> bool:
        words = [word for group in _name_groups(value) for word in re.split(r"[ ^]+", group)]
        return all(any(word.startswith(start) for word in words) for start in wanted)

    return test


def _combined_range(date_key: str, criterion: CombinedRange) -> Predicate:
    time_key = key(criterion.time_tag)
    first = (criterion.dates.first, criterion.times.first if criterion.dates.first else "")
    last = (criterion.dates.last, criterion.times.last or "9") if criterion.dates.last else ("9", "9")

    def predicate(attributes: Attributes) -> bool:
        day = normalise_date(clean((_values(attributes.get(date_key), True) or [""])[0] or ""))
        moment = normalise_time(clean((_values(attributes.get(time_key), True) or [""])[0] or ""))
        return bool(day) and first <= (day, moment) <= last

    return predicate
