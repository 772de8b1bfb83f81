"""Logs of the network sensor Zeek."""

from typing import Literal

from schemas.sources import TextSettings


class Zeek(TextSettings):
    """`[[source]] format = "zeek"`: logs with tabs, as Zeek writes them by default; its JSON is `format = "jsonl"`."""

    format: Literal["zeek"]
