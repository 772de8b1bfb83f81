"""Great Expectations: the library without its usage reports, and a context for one judgement."""

import os
import warnings
from typing import Any


def library() -> Any:
    """The library, imported on first use (it takes seconds) and with its usage reports off."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        import great_expectations
    return great_expectations


def new_context(folder: str) -> Any:
    """A context in memory, without progress bars, whose only site is `folder`."""
    gx = library()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    for name in list(context.get_site_names()):
        context.delete_data_docs_site(name)
    context.add_data_docs_site(
        site_name="quality",
        site_config={
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": folder},
        },
    )
    return context
