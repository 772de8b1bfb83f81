"""A stranger connects to the ports of a running job, and reads the command lines of its machine."""

import base64
import contextlib
import hashlib
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from horovod.runner.util.remote import get_remote_script

from tests.faults.hosts import INTERFACE, TwoHosts, lacking
from tests.faults.job import REPOSITORY, Job

RANKS = Path(__file__).with_name("summing_ranks.py")
PLANTED = b"planted-'\"$(touch x)`\\\n \xff-4fc1a7"
"""Quotes, a line break and a byte that is not UTF-8."""
OPTIONS = {
    "static": ["-np", "2", "-H", "localhost:2"],
    "elastic": [
        *("-np", "2", "--min-np", "1", "--max-np", "2", "--network-interfaces", "lo"),
        *("--host-discovery-script", str(REPOSITORY / "deploy" / "hosts.sh")),
    ],
}
SECONDS = 20


class Eavesdropper:
    """Context manager that keeps reading all command lines of the machine into `seen`."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.seen.add(path.read_bytes())


class Touch:
    """Object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def environment(process: int) -> dict[bytes, bytes]:
    entries = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)


def ranks(job: Job) -> list[int]:
    """Return the processes that sum, without the shells around them."""
    command = b"\0" + str(RANKS).encode() + b"\0"
    found = [
        process for process in job.processes() if command in Path(f"/proc/{process}/cmdline").read_bytes()
    ]
    return [process for process in found if b"HOROVOD_RANK" in environment(process)]


def listening(processes: list[int]) -> set[tuple[str, int]]:
    """Return the addresses on which processes accept connections. Fails on any address that is not IPv4."""
    ended = (FileNotFoundError, ProcessLookupError)
    sockets, lines = set(), list[tuple[str, str]]()
    for process in processes:  # each may have ended meanwhile
        with contextlib.suppress(*ended):
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.add(re.sub(r"^socket:\[(\d+)\]$", r"\1", os.readlink(descriptor)))
        for version in ("tcp", "tcp6"):  # they may be in several network namespaces
            with contextlib.suppress(*ended):
                content = Path(f"/proc/{process}/net/{version}").read_text()
                lines += [(version, line) for line in content.splitlines()[1:]]
    found = set()
    for version, line in lines:
        _, local, _, state, *others = line.split()
        if state == "0A" and others[5] in sockets:
            assert version == "tcp", line
            address, port = local.split(":")
            found.add((socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)))
    return found


def answer(address: tuple[str, int], request: bytes) -> bytes:
    """Return everything that a server sends before it hangs up."""
    heard = b""
    with (
        socket.create_connection(address, timeout=SECONDS) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(request)
        while received := connection.recv(4096):
            heard += received
    return heard


def forgeries(body: bytes) -> Iterator[bytes]:
    """Yield requests from somebody who knows everything but the secret."""
    digest = hashlib.sha256(body).hexdigest()
    for method in ("GET", "PUT", "DELETE", "HEAD", "POST"):
        for path in ("/", "/global/0", "/rank_and_size/localhost:0", "/worker_addresses/localhost:0"):
            for signed in ("", f"X-Horovod-MAC: {'a' * 32} 0 {digest} {'0' * 64}\r\n"):
                head = f"{method} {path} HTTP/1.1\r\n{signed}Content-Length: {len(body)}\r\n\r\n"
                yield head.encode() + body
    yield b"PUT /worker_addresses/localhost:0 HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n"


def launch(folder: Path, options: list[str], **others: Any) -> Job:
    return Job(
        folder,
        [sys.executable, str(RANKS), str(folder / "stop")],
        options,
        environment={**others.pop("environment", {}), "PLANTED": os.fsdecode(PLANTED)},
        **others,
    )


def check_going_on(job: Job) -> None:
    """Wait until the ranks have made more sums than so far."""
    made = max(map(int, re.findall(r"rank 0 made (\d+) sums", job.shown())), default=0)
    job.wait_for(f"rank 0 made {made + 40} sums", SECONDS)


def check_secrets(job: Job, eavesdropper: Eavesdropper) -> None:
    """Check that both secrets have reached the ranks and never appeared on a command line."""
    assert set(re.findall(r"rank (\d) was given (\w+)", job.shown())) == {
        (rank, hashlib.sha256(PLANTED).hexdigest()) for rank in "01"
    }, job.shown()
    (secret,) = {environment(rank)[b"HOROVOD_JOB_SECRET"] for rank in ranks(job)}
    assert len(secret) == 64
    lines = b"\n".join(eavesdropper.seen)
    assert str(RANKS).encode() in lines
    assert PLANTED[-7:] not in lines
    assert secret not in lines


@pytest.mark.parametrize("mode", OPTIONS)
def test_a_stranger_is_refused_and_reads_no_secret(tmp_path: Path, mode: str) -> None:
    touched = tmp_path / "touched"
    pickled = pickle.dumps(Touch(touched))
    with Eavesdropper() as eavesdropper, launch(tmp_path / "job", OPTIONS[mode]) as job:
        job.wait_for("rank 0 made 20 sums")
        first, _ = ranks(job)
        server = ("127.0.0.1", int(environment(first)[b"HOROVOD_GLOO_RENDEZVOUS_PORT"]))
        addresses = listening(job.processes())
        # In elastic mode each rank accepts notifications of new hosts as well.
        assert len(addresses) == {"static": 1, "elastic": 3}[mode]
        assert server in addresses
        assert {address for address, _ in addresses} == {"127.0.0.1"}
        for body in (b"", base64.b64encode(pickled)):
            for request in forgeries(body):
                assert answer(server, request).startswith(b"HTTP/1.0 403 "), request
        for service in addresses - {server}:
            # The old form of a message, and the new one: digest, length, digest.
            for head in (b"\0" * 32 + len(pickled).to_bytes(4, "little"), b"\0" * 68):
                assert answer(service, head + pickled + b"\0" * 68) == b""
        check_going_on(job)
        check_secrets(job, eavesdropper)
        (tmp_path / "job" / "stop").touch()
        assert job.wait() == 0, job.shown()
        assert job.orphans() == []
    assert "without the MAC of this job was refused" in job.shown()
    assert not touched.exists()


def test_a_host_is_given_the_environment_by_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"PLANTED": os.fsdecode(PLANTED), "UID": "7", "not.a-name": "x", "EMPTY": ""}
    command = f"{sys.executable} -c 'import os; print(dict(os.environb), os.getcwd(), flush=True); input()'"
    done = subprocess.run(
        ["/bin/sh"],
        input=os.fsencode(get_remote_script(command, given)) + b"echo not reached\n",
        env={},
        cwd="/",
        capture_output=True,
        check=False,
        timeout=SECONDS,
    )
    shown = done.stdout.decode()
    assert f"b'PLANTED': {PLANTED!r}" in shown
    assert "b'EMPTY': b''" in shown
    assert "b'UID'" not in shown  # bash would end rather than set it
    assert shown.rstrip().endswith(str(tmp_path))
    assert b"EOFError" in done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("interfaces", [["--network-interfaces", INTERFACE], []])
def test_secrets_go_to_other_hosts_on_no_command_line(tmp_path: Path, interfaces: list[str]) -> None:
    """Without `--network-interfaces` the launcher looks for those that connect the hosts."""
    if reason := lacking():
        pytest.skip(reason)
    with TwoHosts(tmp_path / "hosts") as hosts, Eavesdropper() as eavesdropper:
        options = ["-np", "2", "-H", ",".join(f"{address}:1" for address in hosts.addresses)]
        path = os.pathsep.join([str(hosts.path), os.environ["PATH"]])
        with launch(
            tmp_path / "job",
            [*options, "--disable-cache", *interfaces],
            environment={"PATH": path},
            prefix=hosts.on(0, []),
        ) as job:
            job.wait_for("rank 0 made 20 sums")
            assert {address for address, _ in listening(job.processes())} == {hosts.addresses[0]}
            check_secrets(job, eavesdropper)
            (tmp_path / "job" / "stop").touch()
            assert job.wait() == 0, job.shown()
