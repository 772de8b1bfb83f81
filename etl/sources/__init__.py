"""Reading sources: one module a format, and what they share.

`listing` finds the files of a pattern, `pieces` cuts and groups them into tasks, `streams` opens, decompresses and
hashes, `contract` holds each record to the configured columns, `formats` is what every format offers and how it is
found, `reading` is what a Spark task does. A new format is one new module with a `SourceFormat` in `FORMAT`.
"""
