"""Horovod's own threads, kept from taking processors away from the computation."""

import os
from threading import Thread

import horovod.torch as hvd

NICENESS = 10


def start_horovod() -> None:
    """`hvd.init`, with the threads that it starts stepping back behind those that compute.

    One of them asks the other ranks, every cycle, whether there is work. Each time it wakes it would interrupt the
    backward pass; as a batch thread it runs when a processor is free, or in its turn. That makes short cycles cheap.
    Threads inherit how they are scheduled from the one that starts them, and nobody may take that back without
    privileges, so a thread of its own starts them.
    """
    failed: list[BaseException] = []

    def start() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        # On Linux this is of the calling thread, not of the whole process.
        os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
        try:
            hvd.init()
        except BaseException as error:  # noqa: BLE001 (raised again, in the thread that asked)
            failed.append(error)

    thread = Thread(target=start, name="horovod-start")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
