"""Whatever is stored, replaced, deleted and restored: the head is what a plain model says it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, select

from dicomhub.dicom.model import InstanceRef, Target
from dicomhub.index import history, locate
from dicomhub.index.columns import several
from dicomhub.index.delete import delete, restore
from dicomhub.index.migrations import migrate
from dicomhub.index.schema import series, study, version
from dicomhub.index.sqlite import writing_engine
from dicomhub.index.write import commit
from tests.index.conftest import SOURCE, Records

STUDIES = count(1)
"""Every example has studies of its own, so that one database serves all."""

Place = tuple[int, str, str]
instances = st.tuples(st.integers(0, 1), st.sampled_from("12"), st.sampled_from("12"))
contents = st.tuples(st.sampled_from("ab"), st.sampled_from(["CT", "MR"]))
steps = st.one_of(
    st.tuples(st.just("store"), instances, contents),
    st.tuples(st.just("delete"), instances, st.integers(1, 3)),
    st.tuples(st.just("restore"), instances, st.integers(1, 3), st.integers(0, 12)),
)


@dataclass
class Model:
    """Heads by place, and what they were after each change."""

    base: str
    heads: dict[Place, Any] = field(default_factory=dict)
    past: dict[int, dict[Place, Any]] = field(default_factory=dict)

    def target(self, place: Place, depth: int) -> Target:
        study_uid, series_uid, instance_uid = self.uids(place)
        return Target(study_uid, series_uid if depth > 1 else None, instance_uid if depth > 2 else None)

    def uids(self, place: Place) -> tuple[str, str, str]:
        number, s, i = place
        return f"{self.base}.{number}", f"{self.base}.{number}.{s}", f"{self.base}.{number}.{s}.{i}"

    def places(self, place: Place, depth: int) -> list[Place]:
        known = sorted({*self.heads, *(p for heads in self.past.values() for p in heads)})
        return [p for p in known if p[:depth] == place[:depth]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = tmp_path_factory.mktemp("index") / "index.sqlite"
    migrate(f"sqlite:///{path}")
    engine = writing_engine(str(path))
    yield engine
    engine.dispose()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=14))
def test_law_head_rows_and_counts_agree_with_a_plain_model(engine: Engine, script: list[tuple[Any, ...]]) -> None:
    model = Model(f"1.2.{next(STUDIES)}")
    with engine.begin() as conn:
        model.past[history.latest(conn)] = {}
        for step in script:
            play(conn, model, step)
            model.past[history.latest(conn)] = dict(model.heads)
        agree(conn, model)
        for snapshot, heads in model.past.items():
            assert stored(conn, model, snapshot) == heads


def play(conn: Connection, model: Model, step: tuple[Any, ...]) -> None:
    kind, place, *rest = step
    if kind == "store":
        (content,) = rest
        outcome = commit(conn, make(model, place, content), SOURCE, 1.0)
        same = model.heads.get(place) == content
        assert outcome.kind == ("duplicate" if same else "replaced" if place in model.heads else "created")
        model.heads[place] = content
    elif kind == "delete":
        (depth,) = rest
        gone = [p for p in model.places(place, depth) if p in model.heads]
        changes = delete(conn, model.target(place, depth), SOURCE, 1.0)
        assert [one.ref for one in changes] == [InstanceRef(*model.uids(p)) for p in gone]
        for one in gone:
            del model.heads[one]
    else:
        depth, index = rest
        snapshot = sorted(model.past)[min(index, len(model.past) - 1)]
        restore(conn, model.target(place, depth), snapshot, SOURCE, 1.0)
        for one in model.places(place, depth):
            if one in model.past[snapshot]:
                model.heads[one] = model.past[snapshot][one]


def make(model: Model, place: Place, content: tuple[str, str]) -> Any:
    number, s, i = place
    text, modality = content
    sop_class = f"1.2.840.10008.{modality == 'CT':d}"
    return Records()(f"{model.base}.{number}", s, i, text, modality=modality, sop_class_uid=sop_class)


def stored(conn: Connection, model: Model, snapshot: int | None) -> dict[Place, Any]:
    """What is in the index, in the words of the model."""
    known = {place: None for heads in [model.heads, *model.past.values()] for place in heads}
    found = {}
    for place in known:
        located = locate.instance(conn, InstanceRef(*model.uids(place)), snapshot)
        if located is not None:
            (found[place],) = [
                content
                for content in [(text, modality) for text in "ab" for modality in ("CT", "MR")]
                if make(model, place, content).recipe_digest == located.recipe_digest
            ]
    return found


def agree(conn: Connection, model: Model) -> None:
    assert stored(conn, model, None) == model.heads
    for number in (0, 1):
        uid = f"{model.base}.{number}"
        of_study = {place: content for place, content in model.heads.items() if place[0] == number}
        row = conn.execute(select(study).where(study.c.study_instance_uid == uid)).first()
        rows = conn.execute(select(series).where(series.c.study_instance_uid == uid)).all()
        assert {(r.series_instance_uid, r.number_of_series_related_instances) for r in rows} == {
            (f"{uid}.{s}", sum(place[1] == s for place in of_study)) for s in {place[1] for place in of_study}
        }
        if not of_study:
            assert row is None
            continue
        classes = conn.execute(
            select(version.c.sop_class_uid).where(version.c.study_instance_uid == uid, version.c.valid_to.is_(None))
        ).scalars()
        assert row.number_of_study_related_instances == len(of_study)
        assert row.number_of_study_related_series == len(rows)
        assert row.modalities_in_study == several(r.modality for r in rows)
        assert row.sop_classes_in_study == several(classes)
        assert row.last_change <= history.latest(conn)
