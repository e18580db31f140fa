"""Whatever is stored and whatever is asked: SQL and the plain matcher give the same answer, on both databases."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from dicomhub.archive import Archive
from dicomhub.archive.search import search
from dicomhub.config import Config
from dicomhub.dicom.attributes import vr_of
from dicomhub.dicom.criteria import Criterion, Match, SequenceMatch, parse_criterion
from dicomhub.dicom.levels import Attributes, key, level_of, split_levels
from dicomhub.dicom.matching import Query, matches
from dicomhub.dicom.model import InstanceRef, Level
from dicomhub.errors import InvalidQuery
from dicomhub.events import SYSTEM, Source
from dicomhub.hooks import Hooks
from dicomhub.index import search as index
from dicomhub.index.database import Database, open_database
from dicomhub.index.migrations import migrate
from dicomhub.index.plan import make_plan
from dicomhub.index.records import BlobRow, InstanceRecord
from dicomhub.index.write import commit
from dicomhub.store import open_store
from tests.fixtures_postgres import new_database

STUDY_UID, SERIES_UID, INSTANCE_UID = 0x0020000D, 0x0020000E, 0x00080018
MODALITIES_IN_STUDY, TRANSFER_SYNTAX = 0x00080061, 0x00083002
REQUESTS, STEP_ID, PROCEDURE_ID = 0x00400275, 0x00400009, 0x00401001
CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4")
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70")

TEXTS = (
    "",
    "A",
    "a",
    "AB",
    "Ab C",
    " AB ",
    "A*B",
    "A?B",
    "[A]",
    "A%",
    "A_B",
    "\\A",
    "Äb",
    "äB",
    "AA",
    "B",
    "ß",
    "日本",
    "A\0",
)
DATES = ("", "20240229", "20240301", "2024.03.01", "20231231", "2024", "no date", " 20240301")
TIMES = ("", "10", "1000", "100000", "10:00:00", "100000.5", "105959.999999", "235959", "x", "000000")
NAMES = (
    "", "Doe^Jane", "DOE^JANE", "Doe^Jane^^", "doe", "Müller^Änne", "Muller^Anne", "Гусева^Ольга", "O'Neil*^A?",
    "Doe Jane",
    "Yamada^Tarou=山田^太郎=やまだ^たろう", "=山田^太郎", "==やまだ", "^Jane", "[Doe]", "D%_",
)  # fmt: skip
NUMBERS = ("", "1", "01", "1.0", "2", "-1", "99999999999999999999", "1.7", "x")

KEYS: dict[int, tuple[str, ...]] = {
    0x00100010: NAMES,
    0x00080090: NAMES,
    0x00100020: TEXTS,
    0x00100040: ("", "F", "M", "f"),
    0x00100030: DATES,
    0x00080020: DATES,
    0x00080030: TIMES,
    0x00080050: TEXTS,
    0x00081030: TEXTS,
    0x00100021: TEXTS,
    0x00101010: ("", "001D", "040Y"),  # without a column
    0x00080060: ("", "CT", "MR", "ct", "C?"),
    0x0008103E: TEXTS,
    0x00200011: NUMBERS,
    0x00400244: DATES,
    0x00400245: TIMES,
    0x00181030: TEXTS,
    0x00081070: NAMES,  # without a column
    0x00200013: NUMBERS,
    0x00280010: NUMBERS[:6],
    0x00080023: DATES,
    0x00080033: TIMES,
    0x00080008: TEXTS,  # several values, without a column
    0x00180050: NUMBERS,  # without a column, in rows
    0x00180060: NUMBERS,  # in metadata only
    0x00181250: TEXTS,  # in metadata only
}
STUDY_UIDS = tuple(f"1.2.{number}" for number in range(1, 13))


@dataclass
class Instance:
    """One instance of the model."""

    ref: InstanceRef
    sop_class_uid: str
    transfer_syntax_uid: str
    metadata: Attributes


@dataclass
class Model:
    """What is stored, and the answers that it must give."""

    instances: list[Instance] = field(default_factory=list)

    def find(self, level: Level, conditions: tuple[Match, ...]) -> set[tuple[str, ...]]:
        return {uids(level, one.ref) for one in self.instances if matches(conditions, self.attributes(one))}

    def attributes(self, one: Instance) -> Attributes:
        """All attributes of an instance, with those that only an index knows."""
        same = [other for other in self.instances if other.ref.study == one.ref.study]
        modalities = {first_text(other.metadata, 0x00080060) for other in same} - {""}
        computed = {
            key(MODALITIES_IN_STUDY): {"vr": "CS", "Value": sorted(modalities)},
            key(0x00080062): {"vr": "UI", "Value": sorted({other.sop_class_uid for other in same})},
            key(0x00201208): {"vr": "IS", "Value": [len(same)]},
            key(TRANSFER_SYNTAX): {"vr": "UI", "Value": [one.transfer_syntax_uid]},
        }
        return one.metadata | computed


def first_text(metadata: Attributes, tag: int) -> str:
    values = metadata.get(key(tag), {}).get("Value") or [""]
    return str(values[0]).strip(" ")


def uids(level: Level, ref: InstanceRef) -> tuple[str, ...]:
    return {Level.STUDY: (ref.study,), Level.SERIES: (ref.study, ref.series)}.get(
        level, (ref.study, ref.series, ref.instance)
    )


# ---- what is stored


def make_model(seed: int) -> Model:
    """Studies whose attributes take every odd value there is in real archives."""
    chance, model = random.Random(seed), Model()
    for study_uid in STUDY_UIDS:
        of_study = some_attributes(chance, Level.STUDY) | some_attributes(chance, Level.PATIENT)
        for s in range(chance.randint(1, 3)):
            of_series = some_attributes(chance, Level.SERIES) | some_requests(chance)
            for i in range(chance.randint(1, 4)):
                ref = InstanceRef(study_uid, f"{study_uid}.{s}", f"{study_uid}.{s}.{i}")
                sop_class_uid = chance.choice(CLASSES)
                metadata = of_study | of_series | some_attributes(chance, Level.INSTANCE)
                metadata |= identity_of(ref, sop_class_uid)
                model.instances.append(Instance(ref, sop_class_uid, chance.choice(SYNTAXES), metadata))
    model.instances.extend(odd_values())
    return model


def odd_values() -> Iterator[Instance]:
    """A study for each odd value, in all attributes that it may stand in."""
    for number in range(max(map(len, KEYS.values()))):
        ref = InstanceRef(f"1.3.{number}", f"1.3.{number}.1", f"1.3.{number}.1.1")
        values = {tag: as_json(vr_of(tag), values[number % len(values)]) for tag, values in KEYS.items()}
        metadata = {
            key(tag): {"vr": vr_of(tag), "Value": [value]} for tag, value in values.items() if value is not None
        }
        yield Instance(ref, CLASSES[0], SYNTAXES[0], metadata | identity_of(ref, CLASSES[0]))


def identity_of(ref: InstanceRef, sop_class_uid: str) -> Attributes:
    identity = {STUDY_UID: ref.study, SERIES_UID: ref.series, INSTANCE_UID: ref.instance, 0x00080016: sop_class_uid}
    return {key(tag): {"vr": "UI", "Value": [uid]} for tag, uid in identity.items()}


def some_attributes(chance: random.Random, level: Level) -> Attributes:
    found: Attributes = {}
    for tag, values in KEYS.items():
        if level_of(tag) is level and chance.random() < 0.8:
            several = [as_json(vr_of(tag), chance.choice(values)) for _ in range(1 if chance.random() < 0.8 else 2)]
            found[key(tag)] = {"vr": vr_of(tag)} if several == [None] else {"vr": vr_of(tag), "Value": several}
    return found


def some_requests(chance: random.Random) -> Attributes:
    items = [
        {
            key(tag): {"vr": "SH", "Value": [chance.choice(("S1", "S2", "s1", "S*"))]}
            for tag in (STEP_ID, PROCEDURE_ID)
            if chance.random() < 0.7
        }
        for _ in range(chance.randint(0, 2))
    ]
    return {key(REQUESTS): {"vr": "SQ", "Value": items}} if items else {}


def as_json(vr: str, text: str) -> Any:
    """A value as DICOM JSON has it."""
    if not text:
        return None
    if vr == "PN":
        groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
        return {name: group for name, group in groups if group}
    if vr in ("IS", "DS", "US"):
        try:
            return (
                int(text) if text.lstrip("-").isdigit() and len(text) < 19 else float(text) if len(text) < 5 else text
            )
        except ValueError:
            return text
    return text


def record_of(one: Instance) -> InstanceRecord:
    study, series, instance = split_levels(one.metadata)
    recipe = one.ref.instance.encode()
    return InstanceRecord(
        ref=one.ref,
        sop_class_uid=one.sop_class_uid,
        transfer_syntax_uid=one.transfer_syntax_uid,
        recipe=recipe,
        recipe_digest=sha256(recipe).digest(),
        dataset_digest=sha256(recipe).digest(),
        own_file_meta=True,
        view_recipe=None,
        size=len(recipe),
        frame_table_digest=None,
        number_of_frames=0,
        metadata=zstandard.compress(orjson.dumps(one.metadata)),
        study_attributes=study,
        series_attributes=series,
        instance_attributes=instance,
        blobs=(BlobRow(sha256(recipe).digest(), len(recipe), "raw", recipe),),
    )


@dataclass
class Stored:
    """A model, and an archive that holds the same."""

    model: Model
    archive: Archive
    loop: asyncio.AbstractEventLoop
    sequence: int

    def find(self, query: Query, snapshot: int | None = None) -> list[tuple[str, ...]]:
        return self.loop.run_until_complete(self._find(query, snapshot))

    async def _find(self, query: Query, snapshot: int | None) -> list[tuple[str, ...]]:
        include = frozenset({(STUDY_UID,), (SERIES_UID,), (INSTANCE_UID,)})
        result = await search(self.archive, replace(query, include=include), SYSTEM, snapshot)
        found: list[tuple[str, ...]] = []
        async for row in result.rows:
            tags = (STUDY_UID, SERIES_UID, INSTANCE_UID)
            found.append(tuple(row[key(tag)]["Value"][0] for tag in tags if key(tag) in row))
        return found


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    folder: Path = tmp_path_factory.mktemp("search")
    loop = asyncio.new_event_loop()
    with ExitStack() as stack:
        stack.callback(loop.close)
        url = f"sqlite:///{folder}/index.sqlite"
        if request.param == "postgresql":
            url = stack.enter_context(new_database(request.getfixturevalue("postgresql_server")))
        migrate(url)
        config = Config(data_dir=folder, database_url=url)
        database = loop.run_until_complete(open_database(config))
        stack.callback(lambda: loop.run_until_complete(database.close()))
        model = make_model(20240229)
        sequence = loop.run_until_complete(fill(database, model))
        store = loop.run_until_complete(open_store(config))
        stack.callback(lambda: loop.run_until_complete(store.close()))
        yield Stored(model, Archive(config, store, database, Hooks()), loop, sequence)


async def fill(database: Database, model: Model) -> int:
    sequence = 0
    for one in model.instances:
        outcome = await database.write(commit, record_of(one), Source(), 0.0)
        sequence = outcome.version_id
    return sequence


# ---- what is asked


def texts_for(tag: int) -> st.SearchStrategy[str]:
    """Keys: values that exist, with wildcards, in other case, lists, ranges; and some that make no sense."""
    values = [value for value in KEYS[tag] if value.strip()]
    value = st.sampled_from(values)
    return st.one_of(
        value,
        value.map(lambda text: text[:2] + "*"),
        value.map(lambda text: "*" + text[-2:]),
        value.map(lambda text: "?" + text[1:]),
        value.map(lambda text: "*" + text[1:3] + "*"),
        value.map(str.swapcase),
        st.tuples(value, value).map("\\".join),
        st.tuples(value, value).map(lambda two: f"{min(two)}-{max(two)}"),
        value.map(lambda text: text + "-"),
        value.map(lambda text: "-" + text),
        st.just('""'),
        st.just("*"),
        st.text(alphabet="AaBb*?[]%_\\^=- 0123", max_size=6),
    )


@st.composite
def a_match(draw: st.DrawFn) -> Match:
    kind = draw(st.integers(0, 11))
    if kind == 0:
        tag, text = draw(st.sampled_from([(STUDY_UID, "1.2.3"), (STUDY_UID, "1.2.3\\1.2.5"), (SERIES_UID, "1.2.4.0")]))
    elif kind == 1:
        tag = MODALITIES_IN_STUDY
        text = draw(st.sampled_from(["CT", "MR", "CT\\MR", "C*", "ct", '""', "XX", "C?"]))
    elif kind == 2:
        tag, text = draw(st.sampled_from([(0x00080016, CLASSES[0]), (TRANSFER_SYNTAX, SYNTAXES[1]), (0x00201208, "3")]))
    elif kind == 3:
        return draw(a_request())
    else:
        tag = draw(st.sampled_from(sorted(KEYS)))
        text = draw(texts_for(tag))
    try:
        criterion = parse_criterion(vr_of(tag), text, multiple=draw(st.booleans()))
    except InvalidQuery:
        return draw(a_match())
    return Match((tag,), vr_of(tag), criterion)


@st.composite
def a_request(draw: st.DrawFn) -> Match:
    inner = tuple(
        Match((tag,), "SH", parse_criterion("SH", draw(st.sampled_from(["S1", "S2", "S*", "?1", "S1\\S2", '""']))))
        for tag in draw(st.sampled_from([(STEP_ID,), (PROCEDURE_ID,), (STEP_ID, PROCEDURE_ID)]))
    )
    if len(inner) == 1 and draw(st.booleans()):
        return Match((REQUESTS, *inner[0].path), "SH", inner[0].criterion)
    return Match((REQUESTS,), "SQ", SequenceMatch(inner))


LEVELS = st.sampled_from([Level.STUDY, Level.SERIES, Level.INSTANCE])
MATCHES = st.lists(a_match(), min_size=1, max_size=3).map(tuple)
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@SETTINGS
@given(level=LEVELS, conditions=MATCHES)
def test_law_sql_finds_what_the_matcher_finds(stored: Stored, level: Level, conditions: tuple[Match, ...]) -> None:
    found = stored.find(Query(level, conditions))
    assert len(found) == len(set(found))
    assert set(found) == stored.model.find(level, conditions)


@settings(SETTINGS, max_examples=40)
@given(level=LEVELS, conditions=MATCHES)
def test_law_the_past_answers_as_the_head_did(stored: Stored, level: Level, conditions: tuple[Match, ...]) -> None:
    assert sorted(stored.find(Query(level, conditions), stored.sequence)) == sorted(
        stored.find(Query(level, conditions))
    )


def test_law_every_key_of_every_attribute(stored: Stored) -> None:
    """One study for each odd value, every way to ask for each of them: random queries meet few of these pairs."""
    asked = [Match((tag,), vr_of(tag), criterion) for tag, values in KEYS.items() for criterion in keys_of(tag, values)]
    answers = stored.loop.run_until_complete(stored.archive.database.read(answer_all, asked))
    attributes = {uid: one.metadata for one in stored.model.instances if (uid := one.ref.study) not in STUDY_UIDS}
    for match, answer in zip(asked, answers, strict=True):
        assert answer - set(STUDY_UIDS) == {uid for uid, one in attributes.items() if matches([match], one)}, match


def keys_of(tag: int, values: tuple[str, ...]) -> list[Criterion]:
    texts = {
        variant
        for text in filter(str.strip, values)
        for variant in (text, text[:2] + "*", "*" + text[-2:], "?" + text[1:], f"*{text[1:2]}*", text.swapcase(),
                        text + "-", "-" + text, f"{text}\\{values[-1]}")
    }  # fmt: skip
    found = []
    for text in sorted(texts | {'""'}):
        with suppress(InvalidQuery):
            found.append(parse_criterion(vr_of(tag), text))
    return found


def answer_all(conn: Connection, asked: list[Match]) -> list[set[str]]:
    return [answer(conn, match) for match in asked]


def answer(conn: Connection, match: Match) -> set[str]:
    plan = make_plan(Query(Level.STUDY, (match,), frozenset({(STUDY_UID,)})))
    found: set[str] = set()
    place: index.Place | None = index.Place()
    while place is not None:
        page = index.search(conn, plan, place, 500)
        found |= {row[key(STUDY_UID)]["Value"][0] for row in page.rows if isinstance(row, dict)}
        place = page.following
    return found


@settings(SETTINGS, max_examples=40)
@given(level=LEVELS, conditions=st.lists(a_match(), max_size=1).map(tuple), size=st.integers(1, 7))
def test_law_pages_make_up_the_whole(stored: Stored, level: Level, conditions: tuple[Match, ...], size: int) -> None:
    whole = stored.find(Query(level, conditions))
    paged = [
        row
        for offset in range(0, len(whole) + size, size)
        for row in stored.find(Query(level, conditions, limit=size, offset=offset))
    ]
    assert paged == whole
