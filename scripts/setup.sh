# Sets a Debian machine up. Sourced by ./quickstart, ./check and job-template/check, in the
# repository's root; not a program of its own.
# shellcheck shell=sh

SOCKET=/var/run/docker.sock
STATE=/var/lib/jobctl-setup
# The oldest Rust that builds this, as Cargo.toml says.
RUST=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    BOLD=$(printf '\033[1m') RED=$(printf '\033[31m') RESET=$(printf '\033[0m')
else
    BOLD='' RED='' RESET=''
fi

say() { printf '%s\n' "$*"; }
title() { printf '%s== %s%s\n' "$BOLD" "$*" "$RESET"; }
fail() {
    printf '%serror:%s %s\n' "$RED" "$RESET" "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# at_least 1.95.0 1.91: whether the first version is the second or newer.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

rust_is_new_enough() {
    has cargo && has rustc && at_least "$(rustc --version | cut -d' ' -f2)" "$RUST"
}

# Answers like an engine? As docker's own client sees it, so that DOCKER_HOST and contexts count.
engine_answers() {
    if has docker; then
        timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
    else
        [ -S "$SOCKET" ] && has curl &&
            timeout 20 curl -fsS --unix-socket "$SOCKET" http://docker/_ping >/dev/null 2>&1
    fi
}

# The packages that are asked for and not there.
missing_packages() {
    for package in "$@"; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=none
        [ "$status" = installed ] || printf '%s ' "$package"
    done
}

# install WHY PACKAGE...: installs what is missing, and says so first.
install() {
    why=$1
    shift
    if ! has apt-get; then
        fail "this needs $why, which can be installed here only by you (no apt-get): $*"
    fi
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        fail "this needs $why; as root: apt-get install --no-install-recommends $missing"
    fi
    say "installing $why: $missing"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # shellcheck disable=SC2086 # the packages are words
    if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } \
        >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "apt-get failed; its whole output is in $log"
    fi
    rm -f "$log"
}

set_up_rust() {
    # Where rustup puts it, which a shell that is not a login's may not know.
    if ! has cargo && [ -f "${HOME:-}/.cargo/env" ]; then
        # shellcheck source=/dev/null
        . "$HOME/.cargo/env"
    fi
    if rust_is_new_enough; then
        say "Rust: $(rustc --version) is already there"
    elif has rustup; then
        say "installing Rust $RUST or newer with rustup"
        rustup toolchain install --profile minimal --component clippy --component rustfmt stable
        rustup default stable
    else
        # Debian's own `rustc` is too old; `rustc-web` is the one that it keeps new for browsers.
        install "Rust $RUST or newer" rustc-web cargo-web
    fi
    rust_is_new_enough ||
        fail "this needs Rust $RUST or newer; get it from https://rustup.rs, then call this again"
    has cc || install "a C compiler for Rust's crates" gcc libc6-dev
}

set_up_rust_checks() {
    cargo clippy --version >/dev/null 2>&1 || install "Rust's lints" rust-web-clippy
    cargo fmt --version >/dev/null 2>&1 || install "Rust's formatter" rustfmt-web
}

# Where what the job and the tests need is kept, for all checkouts.
JOB_CACHE="${XDG_CACHE_HOME:-${HOME:-}/.cache}/jobctl"

# keep NAME CACHED COMMAND...: has COMMAND put it into the cache, and target/NAME show it. What was put
# into target/ by hand stays, and is completed there.
keep() {
    place=target/$1
    cached=$JOB_CACHE/$2
    shift 2
    if [ -e "$place" ] && [ ! -L "$place" ]; then
        "$@" "$place"
    else
        "$@" "$cached"
        ln -sfn "$cached" "$place"
    fi
}

fetch_snippets() {
    job-template/fetch-reviews "$1" rotten_tomatoes
}

# What the job is built with and tried on: libtorch, weights, reviews.
set_up_job() {
    install "what the job is built with" binutils g++ gcc libc6-dev python3
    python3 -m pip --version >/dev/null 2>&1 || install "what fetches Python's packages" python3-pip
    mkdir -p "$JOB_CACHE" target
    # One at a time: what they write appears whole, but not twice.
    exec 8>"$JOB_CACHE/lock"
    flock 8
    keep libtorch "libtorch-$(sed -n 's/^VERSION=//p' images/libtorch/assemble)" \
        images/libtorch/assemble
    keep model model job-template/fetch-model
    keep reviews.csv reviews.csv job-template/fetch-reviews
    keep snippets.csv snippets.csv fetch_snippets
    exec 8>&-
}

set_up_engine() {
    if engine_answers; then
        say "Docker Engine: $(docker version --format '{{.Server.Version}}' 2>/dev/null ||
            echo 'one') is already there"
        return 0
    fi
    if [ -n "${DOCKER_HOST:-}" ]; then
        fail "the engine that DOCKER_HOST names does not answer: $DOCKER_HOST"
    fi
    if ! has dockerd; then
        install "Docker Engine" docker.io iptables ca-certificates
    fi
    has docker || install "Docker's client" docker-cli
    start_engine
}

start_engine() {
    if [ "$(id -u)" != 0 ]; then
        fail "Docker Engine does not run, or is not for you; as root: systemctl start docker && \
usermod -aG docker $(id -un)"
    fi
    mkdir -p "$STATE"
    # One at a time: two engines on one folder of data destroy it.
    exec 9>"$STATE/lock"
    flock 9
    if engine_answers; then
        exec 9>&-
        return 0
    fi
    say "starting Docker Engine"
    if [ -d /run/systemd/system ]; then
        systemctl start docker 9>&-
        wait_for_engine "journalctl -u docker -n 20" || fail "Docker Engine does not start"
    else
        attempt=1
        until start_dockerd; do
            [ "$attempt" -lt 3 ] || fail "Docker Engine does not start; see $STATE/dockerd.log"
            attempt=$((attempt + 1))
        done
    fi
    exec 9>&-
}

# Without systemd: in a session of its own, so that it outlives this one.
start_dockerd() {
    # After a hard kill these name processes that are gone, or others by now.
    for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
        if [ -f "$file" ] && ! grep -qE '^(dockerd|containerd)' "/proc/$(cat "$file")/comm" \
            2>/dev/null; then
            rm -f "$file"
        fi
    done
    setsid dockerd >"$STATE/dockerd.log" 2>&1 </dev/null 9>&- &
    dockerd=$!
    if wait_for_engine "tail -n 20 $STATE/dockerd.log" "$dockerd"; then
        return 0
    fi
    kill "$dockerd" 2>/dev/null || true
    wait "$dockerd" 2>/dev/null || true
    return 1
}

# wait_for_engine HOW-TO-SEE-WHY [PID]
wait_for_engine() {
    deadline=$(($(date +%s) + 90))
    until engine_answers; do
        if [ "$(date +%s)" -ge "$deadline" ] || { [ -n "${2:-}" ] && ! kill -0 "$2" 2>/dev/null; }; then
            $1 >&2 || true
            return 1
        fi
        sleep 0.2
    done
}
