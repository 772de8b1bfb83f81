#!/usr/bin/env bash
# Byte code of the modules that the commands import, so that neither the first command compiles it, nor each one where
# PYTHONDONTWRITEBYTECODE is set. Compiling all packages would take 360 MB.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

key="$(cat "$STAMPS/run") $(cat "$STAMPS/project")"
if done_for byte-code "$key"; then
    exit 0
fi
log "byte code: compiling the modules that the commands import"
PYTHONDONTWRITEBYTECODE='' with_heartbeat byte-code "$PY" setup/byte_code.py
mark_done byte-code "$key"
