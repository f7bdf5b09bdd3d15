# An apt of a directory of one's own, which touches nothing that apt knows of this machine. Sourced by
# ./fetch-buildx and ./fetch-engine; not a program of its own.
# shellcheck shell=sh

# apt_of DIRECTORY SUITE: has `apt` in DIRECTORY know this suite of Debian, from the mirror that this
# machine uses, and no package as installed.
apt_of() {
    directory=$1
    mkdir -p "$directory/state/lists/partial" "$directory/cache/archives/partial"
    : >"$directory/status"
    # shellcheck disable=SC2016 # apt fills it in
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
        grep -E '/debian/?$' | head -n 1)
    [ -n "$mirror" ] || {
        echo "error: apt knows no mirror of Debian" >&2
        exit 1
    }
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    printf 'deb [signed-by=%s] %s %s main\n' "$keys" "$mirror" "$2" >"$directory/sources.list"
    apt update
}

apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$directory/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State="$directory/state" -o Dir::State::status="$directory/status" \
        -o Dir::Cache="$directory/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root "$@"
}
