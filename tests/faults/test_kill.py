"""kill -9 of every server process while clients push: what was acknowledged is there afterwards, bit for bit."""

from __future__ import annotations

import http.client
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from conformance.servers import HOST, PROJECT, Server, dicomhub, free_ports

ROUNDS = 5
INSTANCES = 500
"""Pushed in each round, a quarter by each of four clients."""
STOW_BATCH = 5
CLIENT_TIMEOUT_S = 60
WHOLE_FILE, DATA_SET = "whole file", "data set"

STUDY_UID, SERIES_UID, INSTANCE_UID = "1.2.3.4444444441", "1.2.3.4444444442", "1.2.3.4444444443"
"""Placeholders in the templates, as long as what replaces them."""
LARGE_EVERY = 5
"""Every fifth instance has pixels large enough to be a blob of their own, every tenth of those the same pixels."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An instance as a client sends it."""

    study: str
    series: str
    instance: str
    data: bytes
    kept: str
    """What must come back: the file as it is, or (C-STORE has no file meta) its data set."""

    @property
    def url(self) -> str:
        return f"/studies/{self.study}/series/{self.series}/instances/{self.instance}"

    def equals(self, retrieved: bytes) -> bool:
        if self.kept == WHOLE_FILE:
            return retrieved == self.data
        return data_set(retrieved) == data_set(self.data)


def data_set(part10: bytes) -> bytes:
    """What follows the file meta information (PS3.10 7.1)."""
    assert part10[128:140] == b"DICM\x02\x00\x00\x00UL\x04\x00"
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


def template(matrix: int) -> bytes:
    """A CT image with placeholders for its UIDs and nothing for its pixels."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, INSTANCE_UID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY_UID, SERIES_UID
    ds.StudyDate, ds.StudyTime, ds.Modality = "20240131", "120000", "CT"
    ds.PatientName, ds.PatientID, ds.AccessionNumber = "Doe^Jane", "P1", "A1"
    ds.Rows = ds.Columns = matrix
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = b"\x00" * (matrix * matrix * 2)
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def make_instances(round_number: int, generator: random.Random) -> list[Sent]:
    """The instances of one round, of three studies with two series each; a quarter after the other for each client."""
    templates = {16: template(16), 200: template(200)}
    repeated = generator.randbytes(200 * 200 * 2)
    made = []
    for number in range(INSTANCES):
        matrix = 200 if number % LARGE_EVERY == 0 else 16
        pixels = repeated if number % (10 * LARGE_EVERY) == 0 else generator.randbytes(matrix * matrix * 2)
        study = f"1.2.3.1{round_number:05}{number % 3:04}"
        series = f"1.2.3.2{round_number:05}{number % 6:04}"
        instance = f"1.2.3.3{round_number:05}{number:04}"
        data = templates[matrix][: -len(pixels)] + pixels
        for placeholder, uid in ((STUDY_UID, study), (SERIES_UID, series), (INSTANCE_UID, instance)):
            assert len(placeholder) == len(uid)
            data = data.replace(placeholder.encode(), uid.encode())
        made.append(Sent(study, series, instance, data, DATA_SET if number < INSTANCES // 2 else WHOLE_FILE))
    return made


# ------------------------------------------------------------------------------------------------------------- clients


def push_by_storescu(server: Server, instances: Sequence[Sent], acknowledged: list[str], folder: Path) -> None:
    """DCMTK; a file is acknowledged when its success status is printed."""
    folder.mkdir(parents=True)
    for sent in instances:
        (folder / sent.instance).write_bytes(sent.data)
    command = ["storescu", "-v", "-aec", "DICOMHUB", HOST, str(server.dimse_port)]
    command += [str(folder / sent.instance) for sent in instances]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(CLIENT_TIMEOUT_S, process.kill)
        watchdog.start()
        sending = ""
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"Sending file: .*/([\d.]+)$", line.strip()):
                sending = found[1]
            elif "Received Store Response (Success)" in line:
                acknowledged.append(sending)
        watchdog.cancel()
    shutil.rmtree(folder)


def push_by_pynetdicom(server: Server, instances: Sequence[Sent], acknowledged: list[str]) -> None:
    """Our own SCU: one status after the other."""
    ae = AE("KILLTEST")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate(HOST, server.dimse_port, ae_title="DICOMHUB")
    for sent in instances:
        if not association.is_established:
            return
        try:
            status = association.send_c_store(dcmread(io.BytesIO(sent.data)))
        except RuntimeError:  # the association ended between the two lines
            return
        if "Status" in status and status.Status == 0x0000:
            acknowledged.append(sent.instance)
    association.release()


def push_by_stow(server: Server, instances: Sequence[Sent], acknowledged: list[str]) -> None:
    """STOW-RS, some instances per request; acknowledged is what a complete response lists as stored."""
    connection = server.connection(timeout_s=20)
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=kill'}
    try:
        for start in range(0, len(instances), STOW_BATCH):
            parts = [sent.data for sent in instances[start : start + STOW_BATCH]]
            body = b"".join(b"--kill\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts)
            connection.request("POST", server.root + "/studies", body=body + b"--kill--\r\n", headers=headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == 200, answer
            acknowledged.extend(item["00081155"]["Value"][0] for item in answer["00081199"]["Value"])
    except (OSError, http.client.HTTPException):
        return  # the server is gone
    finally:
        connection.close()


def start_clients(
    server: Server, instances: list[Sent], acknowledged: list[str], folder: Path
) -> list[threading.Thread]:
    """Four clients at once; whatever they see acknowledged is appended as they see it."""
    quarter = len(instances) // 4
    shares = [instances[start : start + quarter] for start in range(0, len(instances), quarter)]
    work: list[Callable[[], None]] = [
        lambda: push_by_storescu(server, shares[0], acknowledged, folder),
        lambda: push_by_pynetdicom(server, shares[1], acknowledged),
        lambda: push_by_stow(server, shares[2], acknowledged),
        lambda: push_by_stow(server, shares[3], acknowledged),
    ]
    threads = [threading.Thread(target=target) for target in work]
    for thread in threads:
        thread.start()
    return threads


def kill_at(
    server: Server, clients: Iterable[threading.Thread], acknowledged: list[str], count: int, delay_s: float
) -> None:
    """Kill the server ``delay_s`` after the clients have seen ``count`` acknowledgements; wait until they give up."""
    deadline = time.monotonic() + CLIENT_TIMEOUT_S
    while len(acknowledged) < count and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(delay_s)
    server.kill()
    for client in clients:
        client.join(CLIENT_TIMEOUT_S)
        assert not client.is_alive()


# -------------------------------------------------------------------------------------------------------------- checks


def get(server: Server, path: str, accept: str) -> bytes:
    connection = server.connection(timeout_s=30)
    try:
        connection.request("GET", server.root + path, headers={"Accept": accept})
        response = connection.getresponse()
        body = response.read()
        assert response.status in (200, 204), f"GET {path}: {response.status} {body[:300]!r}"
        return body
    finally:
        connection.close()


def search(server: Server, path: str) -> list[dict[str, dict[str, list[object]]]]:
    """All results, page by page."""
    results: list[dict[str, dict[str, list[object]]]] = []
    while page := json.loads(get(server, f"{path}?limit=500&offset={len(results)}", "application/dicom+json") or b"[]"):
        results += page
    return results


def values(results: Iterable[dict[str, dict[str, list[object]]]], tag: str) -> list[object]:
    return [result[tag]["Value"][0] for result in results]


def assert_bit_exact(server: Server, instances: Iterable[Sent]) -> None:
    """Every one is retrieved as it was sent."""

    def check(sent: Sent) -> None:
        retrieved = get(server, sent.url, "application/dicom; transfer-syntax=*")
        assert sent.equals(retrieved), f"{sent.instance}: the {sent.kept} retrieved is not what was sent"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(check, instances))


def assert_counts_agree(server: Server, visible: set[str]) -> None:
    """What studies and series say of their sizes is what can be listed; nothing is empty."""
    listed: set[str] = set()
    for study in search(server, "/studies"):
        path = f"/studies/{study['0020000D']['Value'][0]}"
        series = search(server, path + "/series")
        assert study["00201206"]["Value"] == [len(series)]
        instances = [
            values(search(server, f"{path}/series/{uid}/instances"), "00080018") for uid in values(series, "0020000E")
        ]
        assert values(series, "00201209") == [len(each) for each in instances]
        assert all(instances), f"{path}: a series without instances is visible"
        assert study["00201208"]["Value"] == [sum(map(len, instances))]
        listed.update(str(uid) for each in instances for uid in each)
    assert listed == visible


def assert_verify_clean(data_dir: Path) -> None:
    """``dicomhub verify`` finds nothing."""
    command = [sys.executable, "-m", "dicomhub.cli", "verify", "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_TIMEOUT_S, cwd=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.skipif(shutil.which("storescu") is None, reason="needs DCMTK's storescu (Debian package dcmtk)")
def test_every_acknowledged_instance_survives_kill_9(tmp_path: Path) -> None:
    seed = int(os.environ.get("DICOMHUB_KILL_SEED") or random.randrange(10**6))
    print(f"DICOMHUB_KILL_SEED={seed}")
    generator = random.Random(seed)
    sent: dict[str, Sent] = {}
    acknowledged: set[str] = set()
    seen_before: set[str] = set()
    data_dir = tmp_path / "data"
    http_port, dimse_port = free_ports(2)
    with ExitStack() as running:

        def start() -> Server:
            running.close()  # the one that was killed
            return running.enter_context(dicomhub(data_dir, workers=2, ports=(http_port, dimse_port)))

        server = start()
        for number in range(ROUNDS):
            instances = make_instances(number, generator)
            count, delay_s = generator.randrange(INSTANCES // 20, INSTANCES * 3 // 4), generator.uniform(0, 0.02)
            of_round: list[str] = []
            clients = start_clients(server, instances, of_round, tmp_path / "storescu")
            kill_at(server, clients, of_round, count, delay_s)
            assert count <= len(of_round) < INSTANCES, "the server was not killed while clients were pushing"
            sent |= {each.instance: each for each in instances}
            acknowledged.update(of_round)
            assert_verify_clean(data_dir)
            server = start()
            visible = {str(uid) for uid in values(search(server, "/instances"), "00080018")}
            print(f"round {number}: killed after {len(of_round)} acknowledgements, {len(visible)} visible in all")
            assert acknowledged <= visible <= set(sent)
            assert_bit_exact(server, (sent[uid] for uid in visible - seen_before))
            assert_counts_agree(server, visible)
            seen_before = visible
        assert_bit_exact(server, (sent[uid] for uid in acknowledged))
    assert_verify_clean(data_dir)
