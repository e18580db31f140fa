"""What the suites share: the server under test, the files, and the shape of a check."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conformance.servers import Server
from conformance.synthetic import Study, make_ct_study

TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Subject:
    """A server with an empty archive, and a folder to work in."""

    server: Server
    folder: Path

    def study(self, program: str) -> Study:
        """Two series of three uncompressed CT images, the program's own."""
        folder = self.folder / program
        seed = sum(program.encode())
        return make_ct_study(folder, matrix=64, series=2, images=3, seed=seed)

    def get_json(self, path: str) -> list[dict[str, dict[str, list[object]]]]:
        """QIDO-RS or metadata, by a client that is none of those tried."""
        connection = self.server.connection(TIMEOUT_S)
        try:
            connection.request("GET", self.server.root + path, headers={"Accept": "application/dicom+json"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status == 204:
            return []
        if response.status != 200:
            raise AssertionError(f"GET {path}: {response.status} {body[:200]!r}")
        return list(json.loads(body))

    def instances_of(self, study: str) -> list[str]:
        """SOP Instance UIDs that QIDO-RS lists, in order; one that it lists twice is here twice."""
        return sorted(str(item["00080018"]["Value"][0]) for item in self.get_json(f"/studies/{study}/instances"))


@dataclass(frozen=True, slots=True)
class Check:
    """One service as one program uses it.

    ``run`` returns what was seen in a few words, and raises where it is wrong. Checks of a program run in order: the
    first stores what the others use.
    """

    program: str
    service: str
    run: Callable[[Subject], str]


def run_program(*command: str) -> str:
    """Output of a program that must succeed.

    Raises
    ------
    AssertionError
        With the end of its output.
    """
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S)
    output = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != 0:
        raise AssertionError(f"{command[0]} ended with {done.returncode}: {output[-300:].strip()}")
    return output
