#!/usr/bin/env bash
# The Delta jars of requirements/jars.txt: resolved once through Spark's own Ivy, verified, kept in the user's cache.
# The folder gets its name (where etl/spark/session.py looks for it) only when every jar in it has the right SHA-256.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

list=requirements/jars.txt
target="$CACHE/jars/delta-$(pinned delta-spark run.txt)-spark-$(pinned pyspark run.txt)"

# Every jar of the list stands in folder $1 under its file name and has the SHA-256 of the list; else says what differs.
verify() {
    local coordinates expected name file
    while read -r coordinates expected; do
        name="$(cut -d : -f 2,3 <<< "$coordinates" | tr : -).jar"
        file="$1/$name"
        [[ -f "$file" ]] || { echo "$name is missing from $1"; return 1; }
        if [[ "$(sha256_of "$file")" != "$expected" ]]; then
            echo "$name has SHA-256 $(sha256_of "$file"), but $list asks for $expected"
            return 1
        fi
    done < <(grep -v '^#' "$list")
}

if [[ -d "$target" ]]; then
    if problem="$(verify "$target")"; then
        log "Delta jars: already in $target"
        exit 0
    fi
    log "Delta jars: $problem: fetching them again"
    rm -rf "$target"
fi

packages="$(grep -v '^#' "$list" | cut -d ' ' -f 1 | paste -s -d ,)"
log "Delta jars: resolving $packages through Spark's Ivy (10 MB)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
echo pass > "$work/nothing.py"

# `spark.jars.ivy` on purpose: by itself Ivy would use Java's home folder, which does not follow HOME.
export SPARK_HOME="$("$PY" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')"
export PYSPARK_PYTHON="$PY"
with_heartbeat jars "$SPARK_HOME/bin/spark-submit" --master 'local[1]' \
    --conf "spark.jars.ivy=$CACHE/ivy" --packages "$packages" \
    --exclude-packages 'io.delta:delta-kernel*,io.unitycatalog:*,org.*:*,com.*:*' "$work/nothing.py"

mkdir "$work/jars"
while read -r coordinates _; do
    IFS=: read -r group artifact version <<< "$coordinates"
    cp "$CACHE/ivy/jars/${group}_$artifact-$version.jar" "$work/jars/$artifact-$version.jar"
done < <(grep -v '^#' "$list")
if ! problem="$(verify "$work/jars")"; then
    rm -rf "$CACHE/ivy"
    die "Delta jars: $problem; nothing was kept: look at the Maven repository that Ivy used (logs/setup-jars.log)"
fi
mkdir -p "$CACHE/jars"
rm -rf "$target.partial"
mv "$work/jars" "$target.partial"
mv "$target.partial" "$target"
log "Delta jars: verified and kept in $target"
