"""Transactions: together, alone when they fail, in order over all processes, and durable."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError

from dicomhub.config import Config
from dicomhub.errors import ConfigurationError, OutOfResources, Unavailable
from dicomhub.index import history
from dicomhub.index.database import open_database
from dicomhub.index.migrations import migrate
from dicomhub.index.schema import version
from dicomhub.index.write import commit, take_numbers
from tests.index.conftest import POSTGRESQL, SQLITE


class Hiccup(Exception):
    pass


def broken(conn: Connection) -> None:
    take_numbers(conn, 1)
    raise Hiccup


def wrong(conn: Connection) -> None:
    conn.exec_driver_sql("INSERT INTO version (id) VALUES (1)")


def count(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(version)).scalar_one()


async def test_failing_function_undoes_itself_alone(database, record, source):
    results = await asyncio.gather(
        database.write(commit, record(instance="1"), source, 1.0),
        database.write(broken),
        database.write(commit, record(instance="2"), source, 1.0),
        database.write(wrong),
        database.write(commit, record(instance="3"), source, 1.0),
        return_exceptions=True,
    )
    assert isinstance(results[1], Hiccup)
    assert isinstance(results[3], DBAPIError)
    assert [results[n].version_id for n in (0, 2, 4)] == [1, 2, 3], "a number that was not used is given back"
    assert await database.read(count) == 3


async def test_failing_function_alone_leaves_nothing(database):
    with pytest.raises(Hiccup):
        await database.write(broken)
    assert await database.read(history.latest) == 0


async def test_many_writers_get_gapless_numbers(database, record, source):
    outcomes = await asyncio.gather(*(database.write(commit, record(instance=str(n)), source, 1.0) for n in range(100)))
    assert sorted(one.version_id for one in outcomes) == list(range(1, 101))
    changes = await database.read(history.changes, 0, 1000)
    assert [one.sequence for one in changes] == list(range(1, 101))


async def test_same_instance_from_many_writers_becomes_one_version(database, record, source):
    outcomes = await asyncio.gather(*(database.write(commit, record(), source, 1.0) for _ in range(10)))
    assert sorted(one.kind for one in outcomes) == ["created"] + ["duplicate"] * 9


@pytest.mark.parametrize("method", ["read", "read_now"])
async def test_reads_cannot_write(database, method):
    with pytest.raises(Exception, match=r"(?i)read.?only"):
        await getattr(database, method)(broken)
    assert await database.read(history.latest) == 0


async def test_read_sees_every_finished_write(database, record, source):
    for n in range(20):
        await database.write(commit, record(instance=str(n)), source, 1.0)
        assert await database.read(count) == n + 1
        assert await database.read_now(count) == n + 1


async def test_read_is_one_state_while_others_write(database, record, source):
    loop = asyncio.get_running_loop()
    await database.write(commit, record(instance="1"), source, 1.0)

    def twice(conn: Connection) -> tuple[int, int]:
        before = count(conn)
        if loop is not running_loop():  # a thread: let a write happen in the meantime
            write = database.write(commit, record(instance="2"), source, 1.0)
            asyncio.run_coroutine_threadsafe(write, loop).result(timeout=10)
        return before, count(conn)

    assert await database.read(twice) == (1, 1)


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def test_closed_database_refuses(database_url):
    database = await open_database(Config(database_url=database_url))
    await database.close()
    await database.close()
    for call in (database.read, database.read_now, database.write):
        with pytest.raises(Unavailable, match="closed"):
            await call(count)


async def test_close_finishes_what_waits(database_url, record, source):
    database = await open_database(Config(database_url=database_url))
    writes = [asyncio.ensure_future(database.write(commit, record(instance=str(n)), source, 1.0)) for n in range(100)]
    await asyncio.sleep(0)
    await database.close()
    assert len({one.version_id for one in await asyncio.gather(*writes)}) == 100


async def test_caller_who_gives_up_is_skipped(database, record, source):
    writes = [asyncio.ensure_future(database.write(commit, record(instance=str(n)), source, 1.0)) for n in range(150)]
    await asyncio.sleep(0)
    for one in writes[100:]:
        one.cancel()
    done = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in done[100:])
    assert 100 <= await database.read(count) < 150


@pytest.mark.parametrize("url", ["mysql://host/name", "not a url", "sqlite://", "sqlite:///:memory:"])
async def test_unusable_url_is_a_configuration_error(url):
    with pytest.raises(ConfigurationError, match="database_url"):
        await open_database(Config(database_url=url))


async def test_missing_server_is_unavailable():
    with pytest.raises(Unavailable):
        await open_database(Config(database_url="postgresql://postgres@127.0.0.1:9/none"))


# ---- several processes

WRITER = """
import asyncio, sys, time
sys.path.insert(0, {root!r})
from dicomhub.config import Config
from dicomhub.index.database import open_database
from dicomhub.index.write import commit
from tests.index.conftest import SOURCE, Records

async def main(url, name, many):
    database = await open_database(Config(database_url=url))
    record = Records()
    print("ready", flush=True)
    sys.stdin.readline()
    async def one(n):
        await database.write(commit, record(study="1.2." + name, instance=str(n)), SOURCE, time.time())
        print("acknowledged", n, time.time(), flush=True)
    for first in range(0, many, 4):
        await asyncio.gather(*(one(n) for n in range(first, first + 4)))
    await database.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
def start_writer(database_url):
    """Starts a process that commits instances of a study of its own, four at a time, and tells of each."""
    root = str(Path(__file__).resolve().parents[2])
    started = []

    def start(name: str, many: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER.format(root=root), database_url, name, str(many)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


async def test_processes_take_turns_and_leave_no_gap(database, start_writer):
    processes = [start_writer(name, 40) for name in "123"]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = await asyncio.gather(*(asyncio.to_thread(process.communicate, timeout=60) for process in processes))
    ends = [float(out.splitlines()[-1].split()[2]) for out, _ in outputs]
    begins = [float(out.splitlines()[0].split()[2]) for out, _ in outputs]
    assert max(begins) < min(ends), "a process wrote only after another was done"
    changes = await database.read(history.changes, 0, 1000)
    assert [one.sequence for one in changes] == list(range(1, 121))


async def test_kill_in_the_middle_loses_nothing_acknowledged(database, start_writer, record, source):
    writer = start_writer("1", 4000)
    await asyncio.to_thread(go, writer)
    for _ in range(40):
        await asyncio.to_thread(writer.stdout.readline)
    writer.kill()
    rest, _ = writer.communicate(timeout=10)
    acknowledged = 40 + sum(line.startswith("acknowledged") and line.endswith("\n") for line in rest.splitlines(True))

    changes = await database.read(history.changes, 0, 10_000)
    assert len(changes) >= acknowledged
    assert [one.sequence for one in changes] == list(range(1, len(changes) + 1))
    assert await database.read(count) == len(changes)
    began = time.monotonic()
    await database.write(commit, record(), source, 1.0)
    assert time.monotonic() - began < 10, "the dead process keeps nobody waiting"


# ---- SQLite alone


@SQLITE
async def test_sqlite_flushes_every_commit(database):
    def pragmas(conn: Connection) -> tuple[str, int]:
        mode = conn.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        return mode, conn.exec_driver_sql("PRAGMA synchronous").scalar_one()

    assert await database.write(pragmas) == ("wal", 2)


@SQLITE
async def test_full_disk_is_out_of_resources_and_recovers(database, record, source):
    def limit(conn: Connection, pages: int) -> None:
        conn.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    await database.write(commit, record(instance="0"), source, 1.0)
    await database.write(limit, 1)  # as many as there are: no further page
    results = await asyncio.gather(
        *(database.write(commit, record(instance=str(n)), source, 1.0) for n in range(1, 400)),
        return_exceptions=True,
    )
    failed = [one for one in results if isinstance(one, Exception)]
    assert failed
    assert {type(one) for one in failed} == {OutOfResources}
    assert await database.read(count) == 1 + len(results) - len(failed)

    await database.write(limit, 2**30)
    await database.write(commit, record(instance="x"), source, 1.0)
    changes = await database.read(history.changes, 0, 1000)
    assert [one.sequence for one in changes] == list(range(1, len(changes) + 1))


@SQLITE
async def test_lock_of_another_program_is_waited_out(database, tmp_path, record, source):
    other = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    write = asyncio.ensure_future(database.write(commit, record(), source, 1.0))
    await asyncio.sleep(0.2)
    assert not write.done()
    assert await database.read(count) == 0, "reading does not wait"
    other.execute("ROLLBACK")
    other.close()
    assert (await write).kind == "created"


async def test_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "index.sqlite").write_bytes(b"not a database at all, but longer than the header of one" * 20)
    with pytest.raises(Exception, match="not a database"):
        await asyncio.to_thread(migrate, f"sqlite:///{tmp_path}/index.sqlite")


# ---- PostgreSQL alone


@POSTGRESQL
async def test_connections_that_the_server_closed_are_replaced(database, record, source):
    def close_all(conn: Connection) -> None:
        conn.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dicomhub'"
                " AND datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    await database.read(count)
    await database.write(close_all)
    assert await database.read(count) == 0
    await database.read(close_all)
    assert (await database.write(commit, record(), source, 1.0)).kind == "created"


@POSTGRESQL
async def test_writer_that_hangs_elsewhere_is_given_up_in_time(database, monkeypatch, record, source):
    from dicomhub.index import group_commit

    monkeypatch.setattr(group_commit, "WRITE_TIMEOUT_S", 0.5)
    entered = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(conn: Connection) -> None:
        loop.call_soon(entered.set)
        conn.exec_driver_sql("SELECT pg_sleep(2)")

    hanging = asyncio.ensure_future(database.write(slow))
    await entered.wait()
    with pytest.raises(Unavailable, match="did not take"):
        await database.write(commit, record(), source, 1.0)
    with pytest.raises(Unavailable):
        await hanging
    monkeypatch.undo()
    await database.write(commit, record(instance="2"), source, 1.0)
    assert await database.read(count) == 1, "who was told no has not been stored later"
