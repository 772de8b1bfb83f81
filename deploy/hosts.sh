#!/bin/sh
# The hosts of an elastic training, one `name:slots` a line; horovodrun asks every second. HOSTS names them
# ("a:2 b:2" or "a:2,b:2"), or HOSTS_FILE a file with a line each, which may change while the training runs.
# By default this machine under two names: Horovod leaves out whole hosts where a process failed.
if [ -n "$HOSTS_FILE" ]; then
    sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$HOSTS_FILE"
else
    echo "${HOSTS:-localhost:1 127.0.0.1:1}" | tr ', ' '\n\n' | sed '/^$/d'
fi
