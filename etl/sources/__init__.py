"""Reading of sources: one module a format, and their common parts.

`listing` finds the files of a pattern, `pieces` cuts and groups them into tasks, `streams` opens, decompresses and
hashes, `contract` checks each record against the configured columns, `formats` defines and finds formats, `reading`
is the Spark task. A new format is one new module with a `SourceFormat` in `FORMAT`.
"""
