"""Two hosts on one machine: network namespaces joined by a pair of virtual interfaces, each with its own sshd.

Needs root (or the rights to make network namespaces), `ip` of iproute2, `sshd` and `ssh-keygen` of OpenSSH.
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.job import end

PORT = 2222
INTERFACE = "link0"
TOOLS = ("ip", "sshd", "ssh", "ssh-keygen")
SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
SECONDS = 30
FILES = Path("/etc/netns")
"""Folder with a subfolder per namespace, whose files `ip netns exec` puts over those of /etc."""


def lacking() -> str:
    """Return the reason why two hosts cannot be made here; empty if they can."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=SEARCHED) is None]
    if missing:
        return f"no {', '.join(missing)} here: install iproute2 and the OpenSSH server"
    name = f"ringlake-{os.getpid()}-try"
    tried = subprocess.run(
        [tool("ip"), "netns", "add", name], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    if tried.returncode:
        return f"network namespaces cannot be made here: {tried.stderr.strip()}"
    subprocess.run([tool("ip"), "netns", "delete", name], check=True, timeout=SECONDS)
    return ""


def tool(name: str) -> str:
    found = shutil.which(name, path=SEARCHED)
    assert found is not None
    return found


class TwoHosts:
    """Context manager of two hosts; `addresses` holds their addresses, and `names` their namespaces."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        # The third byte keeps two test runs on one machine apart.
        self.addresses = [f"10.213.{os.getpid() % 250}.{number}" for number in (1, 2)]
        self.names = [f"ringlake-{os.getpid()}-{letter}" for letter in "ab"]
        self.servers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._make_network()
            self._start_servers()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def on(self, host: int, command: Sequence[str]) -> list[str]:
        """Return a command that starts `command` on a host, given by its number."""
        return [tool("ip"), "netns", "exec", self.names[host], *command]

    def unplug(self, host: int) -> None:
        """Take down the link of a host: nothing reaches it any more, and nobody is told."""
        self._ip("-n", self.names[host], "link", "set", INTERFACE, "down")

    def plug_in(self, host: int) -> None:
        self._ip("-n", self.names[host], "link", "set", INTERFACE, "up")

    def processes(self, host: int) -> list[int]:
        """Return all processes of a host except its sshd."""
        listed = self._ip("netns", "pids", self.names[host])
        own = {server.pid for server in self.servers}
        return [int(process) for process in listed.split() if int(process) not in own]

    @property
    def path(self) -> Path:
        """Folder for the front of PATH, with an `ssh` that knows the keys of these hosts."""
        return self.folder / "bin"

    @staticmethod
    def _ip(*arguments: str) -> str:
        done = subprocess.run(
            [tool("ip"), *arguments], check=True, capture_output=True, text=True, timeout=SECONDS
        )
        return done.stdout

    def _make_network(self) -> None:
        for name in self.names:
            self._ip("netns", "add", name)
            self._ip("-n", name, "link", "set", "lo", "up")
        here, there = self.names
        self._ip(
            *("-n", here, "link", "add", INTERFACE, "type", "veth"),
            *("peer", "name", INTERFACE, "netns", there),
        )
        for name, address in zip(self.names, self.addresses, strict=True):
            # Horovod looks up the host's own name for some of its connections, regardless of the interface it is given.
            (FILES / name).mkdir(parents=True)
            (FILES / name / "hosts").write_text(f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n")
            self._ip("-n", name, "address", "add", f"{address}/24", "dev", INTERFACE)
            self._ip("-n", name, "link", "set", INTERFACE, "up")

    def _start_servers(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd requires it
        key, host_key = self.folder / "key", self.folder / "host_key"
        for file in (key, host_key):
            subprocess.run(
                [tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(file)],
                check=True,
                timeout=SECONDS,
            )
        known = self.folder / "known_hosts"
        public = host_key.with_suffix(".pub").read_text()
        known.write_text("".join(f"[{address}]:{PORT} {public}" for address in self.addresses))
        (self.folder / "ssh_config").write_text(
            f"Host *\n Port {PORT}\n User {getpass.getuser()}\n IdentityFile {key}\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {known}\n GlobalKnownHostsFile /dev/null\n LogLevel ERROR\n"
            # Without it the launcher would mistake an unreachable host for one that computes.
            " ServerAliveInterval 2\n ServerAliveCountMax 3\n ConnectTimeout 5\n"
        )
        self.path.mkdir()
        wrapper = self.path / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec {tool("ssh")} -F {self.folder / "ssh_config"} "$@"\n')
        wrapper.chmod(0o755)
        for number, address in enumerate(self.addresses):
            config = self.folder / f"sshd_config_{number}"
            config.write_text(
                f"Port {PORT}\nListenAddress {address}\nHostKey {host_key}\nPidFile none\nUsePAM no\n"
                f"AuthorizedKeysFile {key}.pub\nStrictModes no\nPermitRootLogin yes\n"
                "PasswordAuthentication no\nClientAliveInterval 2\nClientAliveCountMax 3\n"
            )
            log = self.folder / f"sshd_{number}.log"
            with log.open("wb") as output:
                server = subprocess.Popen(
                    self.on(number, [tool("sshd"), "-D", "-e", "-f", str(config)]),
                    stdin=subprocess.DEVNULL,
                    stderr=output,
                )
            self.servers.append(server)
            until = time.monotonic() + SECONDS
            while "listening" not in log.read_text():
                if server.poll() is not None or time.monotonic() > until:
                    raise AssertionError(f"sshd does not listen: {log.read_text()}")
                time.sleep(0.05)

    def _remove(self) -> None:
        for name in self.names:
            listed = subprocess.run(
                [tool("ip"), "netns", "pids", name],
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
            for process in listed.stdout.split():
                end(int(process))
        for server in self.servers:
            server.wait(SECONDS)
        for name in self.names:
            # The pair of interfaces disappears with them.
            subprocess.run(
                [tool("ip"), "netns", "delete", name], capture_output=True, check=False, timeout=SECONDS
            )
            shutil.rmtree(FILES / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            FILES.rmdir()
