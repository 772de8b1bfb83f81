#!/usr/bin/env bash
# Byte code of what the commands import, so that the first of them does not compile it, nor each one where
# PYTHONDONTWRITEBYTECODE is set. That of all packages would take 360 MB.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

key="$(cat "$STAMPS/run") $(cat "$STAMPS/project")"
if done_for byte-code "$key"; then
    exit 0
fi
say "byte code: of what the commands import"
PYTHONDONTWRITEBYTECODE='' with_heartbeat byte-code "$PY" setup/byte_code.py
mark_done byte-code "$key"
