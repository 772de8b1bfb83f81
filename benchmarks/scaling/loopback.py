"""TCP bandwidth on this machine while two processes send to each other: `python -m benchmarks.scaling.loopback`."""

import multiprocessing
import socket
import statistics
import time
from threading import Thread

SIZE = 16 << 20
"""Bytes that each of the two sends at a time: about the gradients of the larger model."""
REPEATS = 40


def exchange(connection: socket.socket, content: bytes, into: memoryview) -> None:
    """Send `content` and fill `into` at the same time."""
    sender = Thread(target=connection.sendall, args=(content,))
    sender.start()
    received = 0
    while received < len(into):
        received += connection.recv_into(into[received:])
    sender.join()


def other(port: int) -> None:
    """Run the second process."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        content, into = bytes(SIZE), memoryview(bytearray(SIZE))
        for _ in range(REPEATS):
            exchange(connection, content, into)


def bandwidth() -> float:
    """Return the bytes/s in each direction, median."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = multiprocessing.get_context("spawn").Process(target=other, args=(server.getsockname()[1],))
        process.start()
        connection, _ = server.accept()
    content, into = bytes(SIZE), memoryview(bytearray(SIZE))
    seconds = []
    with connection:
        for _ in range(REPEATS):
            began = time.perf_counter()
            exchange(connection, content, into)
            seconds.append(time.perf_counter() - began)
    process.join()
    return SIZE / statistics.median(seconds)


if __name__ == "__main__":
    print(f"{bandwidth() / 1e9:.2f} GB/s in each direction")
