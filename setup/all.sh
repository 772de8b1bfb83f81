#!/usr/bin/env bash
# setup/all.sh [dev] [data]: all parts of the set-up. Horovod compiles while the jars and the data are fetched.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

setup/prerequisites.sh
setup/venv.sh "$@"
set -m # a process group of its own, which an interrupt can end as a whole
setup/horovod.sh &
horovod=$!
set +m
trap 'kill -- "-$horovod" 2> /dev/null; exit 130' INT TERM
status=0
setup/jars.sh || status=$?
[[ " $* " != *" data "* ]] || setup/data.sh || status=$?
setup/byte_code.sh || status=$?
wait "$horovod" || status=$?
[[ "$status" != 0 ]] || log "done"
exit "$status"
