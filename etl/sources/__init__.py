"""Reading of sources: one module a format, and their common parts.

In `content`, `listing` finds the files of a pattern, and `streams` opens, decompresses and hashes them. In `files`,
`formats` defines and finds formats, and `pieces` cuts files and groups them into tasks. `contract` checks each record
against the configured columns, `reading` is the Spark task. A new format is one new module with a `SourceFormat` in
`FORMAT`.
"""
