"""One module a stage: what it reads and writes, when it is complete, and `STAGE`; `command` runs them."""
