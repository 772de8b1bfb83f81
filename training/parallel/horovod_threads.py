"""Horovod's own threads, at low priority so that they take no processors from the computation."""

import os
from threading import Thread

import horovod.torch as hvd

NICENESS = 10


def start_horovod() -> None:
    """Run `hvd.init` so that the threads it starts yield to those that compute.

    One of them asks the other ranks in every cycle for work. It would interrupt the backward pass each time it wakes;
    as a batch thread it runs when a processor is idle, or in its turn. That makes short cycles cheap. Threads inherit
    their scheduling from the thread that starts them, and only a privileged process can undo it, so a separate thread
    starts them.
    """
    failed: list[BaseException] = []

    def start() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        # On Linux this applies to the calling thread, not to the whole process.
        os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
        try:
            hvd.init()
        except BaseException as error:  # noqa: BLE001 (raised again, in the thread that asked)
            failed.append(error)

    # While it waits for ranks that never come, it must not keep a process that was told to stop from ending.
    thread = Thread(target=start, name="horovod-start", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
