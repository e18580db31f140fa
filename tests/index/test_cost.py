"""What the index costs, in time of the processor, so that a busy machine does not matter."""

from __future__ import annotations

import time
from typing import Any

from dicomhub.index import locate
from dicomhub.index.migrations import migrate
from dicomhub.index.sqlite import writing_engine
from dicomhub.index.write import commit

COMMIT_MAX_MS = 1.5
"""At 500 instances/s the index may take three quarters of one processor."""


def study_attributes() -> dict[str, Any]:
    attributes: dict[str, Any] = {f"0010{n:04X}": {"vr": "LO", "Value": [f"value {n}"]} for n in range(0x20, 0x34)}
    attributes["00100010"] = {"vr": "PN", "Value": [{"Alphabetic": "Müller^Hans", "Ideographic": "山田^太郎"}]}
    attributes["00080020"] = {"vr": "DA", "Value": ["20240131"]}
    return attributes


def test_storing_an_instance_costs_little_on_sqlite(tmp_path, record, source):
    migrate(f"sqlite:///{tmp_path}/index.sqlite")
    engine = writing_engine(f"{tmp_path}/index.sqlite")
    attributes = study_attributes()
    records = [record(series=str(n % 5), instance=str(n), study_attributes=attributes) for n in range(600)]
    with engine.begin() as conn:
        for one in records[:100]:
            commit(conn, one, source, 1.0)
        began = time.thread_time()
        for one in records[100:]:
            commit(conn, one, source, 1.0)
        commit_ms = (time.thread_time() - began) / 500 * 1000
        for one in records:
            assert locate.instance(conn, one.ref) is not None
    engine.dispose()
    print(f"commit {commit_ms:.3f} ms of processor time for an instance")
    assert commit_ms < COMMIT_MAX_MS
