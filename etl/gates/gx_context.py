"""Great Expectations: the library without its usage reports, imported in the background, and its one context."""

import contextlib
import functools
import os
import sys
import threading
from typing import Any


def library() -> Any:
    """Return the library, its usage reports off; importing takes seconds, and waits for an import that has begun."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    main: Any = sys.modules["__main__"]
    if not hasattr(main, "__file__"):
        # The library looks whether Spark Connect is there, and PySpark takes `python -c` for a run of doctests: without
        # Connect's packages it would end this process with status 0.
        main.__file__ = "-c"
    import great_expectations

    return great_expectations


def import_in_background() -> threading.Thread:
    """Start the import of the library while others work; join the thread before judging.

    An import that fails in the thread fails again, with its error, where `library` is called.
    """

    def quietly() -> None:
        with contextlib.suppress(Exception):
            library()

    thread = threading.Thread(target=quietly, name="great-expectations")
    thread.start()
    return thread


@functools.cache
def context() -> Any:
    """Return the context of this process: in memory, without progress bars and without a site."""
    gx = library()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    made = gx.get_context(mode="ephemeral")
    made.variables.progress_bars = ProgressBarsConfig(globally=False)
    return made
