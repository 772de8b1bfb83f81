#!/usr/bin/env bash
# What has to come from the operating system: Linux, Python 3.11 to 3.13 with venv and headers, Java 17 or 21, a C++ compiler,
# cmake, make, patch. On Debian and Ubuntu, as root or with password-less sudo, what is missing is named and installed; anywhere else
# the one command to run is printed, and that is all. What is installed is never upgraded, and nothing is installed twice.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

JVM_FOLDER="${RINGLAKE_JVM_FOLDER:-/usr/lib/jvm}" # where distributions keep their Javas
java_command() { printf '%s' "${JAVA_HOME:+$JAVA_HOME/bin/}java"; }
java_version() { "$1" -version 2>&1 | sed -n 's/.* version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1; }
fits() { [[ "$(java_version "$1" || true)" =~ ^(17|21)$ ]]; }

# The folder of a Java that would do but is not the one that would be started; nothing where there is none.
another_java() {
    local found
    for found in "$JVM_FOLDER"/*; do
        if [[ -x "$found/bin/java" ]] && fits "$found/bin/java"; then
            printf '%s' "$found"
            return
        fi
    done
}

# Installing a Java would not help where one is there already, or JAVA_HOME leads elsewhere: then says what would.
choose_java() {
    local version here other
    fits "$(java_command)" && return
    version="$(java_version "$(java_command)" || true)"
    here="$(java_command) is missing"
    [[ -z "$version" ]] || here="$(java_command) is Java $version"
    other="$(another_java)"
    [[ -z "$other" ]] || die "Java 17 or 21 is needed, and $here: export JAVA_HOME=$other"
    [[ -z "${JAVA_HOME:-}" ]] || die "Java 17 or 21 is needed, and $here: unset JAVA_HOME, or set it to the folder of such a Java"
}

# Prints what is missing, one word each: python, venv, headers, java, compiler, cmake, make, patch.
missing() {
    local python
    python="$(find_python)"
    if [[ -z "$python" ]]; then
        echo python venv headers
    else
        "$python" -c 'import ensurepip, venv' 2> /dev/null || echo venv
        "$python" -c 'import pathlib, sys, sysconfig
sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())' || echo headers
    fi
    fits "$(java_command)" || echo java
    command -v c++ g++ clang++ > /dev/null || echo compiler
    command -v cmake > /dev/null || echo cmake
    command -v make > /dev/null || echo make
    command -v patch > /dev/null || echo patch
}

# The packages of a distribution for the words of `missing`: package_names apt|dnf|other WORD…
package_names() {
    local system="$1" word python version
    shift
    python="$(find_python)"
    version="${python:+$(version_of "$python")}"
    for word in "$@"; do
        case "$system:$word" in
            apt:python) echo python3 ;; # of the distribution: 3.11 on Debian 12, 3.12 on Ubuntu 24.04, 3.13 on Debian 13
            apt:venv) echo "python${version:-3}-venv" ;;
            apt:headers) echo "python${version:-3}-dev" ;;
            apt:java) echo openjdk-17-jre-headless ;;
            apt:compiler) echo g++ ;;
            dnf:python | dnf:venv) echo "python${version:-3.12}" ;;
            dnf:headers) echo "python${version:-3.12}-devel" ;;
            dnf:java) echo java-17-openjdk-headless ;;
            dnf:compiler) echo gcc-c++ ;;
            *:cmake | *:make | *:patch) echo "$word" ;;
            other:python) echo 'Python 3.11, 3.12 or 3.13' ;;
            other:venv) echo "the venv module of Python${version:+ $version}" ;;
            other:headers) echo "the header files of Python${version:+ $version}" ;;
            other:java) echo 'Java 17 or 21' ;;
            other:compiler) echo 'a C++ compiler' ;;
        esac
    done | awk '!seen[$0]++'
}

joined() { paste -s -d '|' | sed "s/|/$1/g"; } # the lines of standard input, with $1 between them

[[ "$(uname -s)" == Linux ]] || die "this runs on Linux only, and here is $(uname -s)"

[[ -z "${PYTHON:-}" || -n "$(find_python)" ]] || die "PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13 that runs here"

# Of packages, those that are not installed.
not_installed() {
    local package
    for package in "$@"; do
        [[ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2> /dev/null || true)" == ii* ]] || echo "$package"
    done
}

choose_java
lacking="$(missing)"
if [[ -n "$lacking" ]]; then
    if command -v apt-get > /dev/null; then
        packages="$(not_installed $(package_names apt $lacking) | joined ' ')"
        [[ -n "$packages" ]] \
            || die "the packages $(package_names apt $lacking | joined ', ') are installed, and yet this is missing from the PATH: $(package_names other $lacking | joined ', ')"
        command_line="apt-get install -y --no-upgrade $packages"
        if [[ "$(id -u)" == 0 ]]; then
            sudo=()
        elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
            sudo=(sudo -n)
        else
            die "please install what is missing, then start again: sudo $command_line"
        fi
        log "prerequisites: going to install with apt-get:" $packages
        with_heartbeat apt "${sudo[@]}" bash -c "apt-get update && DEBIAN_FRONTEND=noninteractive $command_line" \
            || die "apt-get could not install it (see above); install by other means: $(package_names other $lacking | joined ', ')"
    elif command -v dnf > /dev/null; then
        die "please install what is missing, then start again: sudo dnf install -y $(package_names dnf $lacking | joined ' ')"
    else
        die "please install with your system's package manager, then start again: $(package_names other $lacking | joined ', ')"
    fi
    choose_java
    lacking="$(missing)"
    [[ -z "$lacking" ]] || die "still missing: $(package_names other $lacking | joined ', ')"
fi
log "prerequisites: $("$(find_python)" --version), Java $(java_version "$(java_command)"), C++ compiler, cmake, make, patch"
