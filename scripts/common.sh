# Sourced by the scripts beside it: how to speak, to fail in one line, and to become root.

say() { printf '%s\n' "$*"; }

# fail WHAT-AND-WHY WHAT-TO-DO
fail() {
    printf 'error: %s %s\n' "$1" "$2" >&2
    exit 1
}

# Whether commands can be run as root: directly, by sudo without a password, or by sudo that may ask on this terminal.
can_be_root() {
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null 2>&1 || return 1
    sudo -n true 2>/dev/null && return 0
    [ -t 0 ] && sudo -v
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# The line of a log that says why: the last one that names an error, else the last.
last_reason() {
    { grep -aiE '(^E:|^ERROR|level=(fatal|error)|failed|cannot|denied)' "$1" || cat "$1"; } 2>/dev/null |
        grep -av '^[[:space:]]*$' | tail -n 1
}

# apt says first what is wrong, and then what follows from it.
first_reason() {
    { grep -aiE -m 1 '(could not|temporary failure|unable to connect|no space|interrupted|not signed|^E:)' "$1" ||
        tail -n 1 "$1"; } 2>/dev/null | sed 's/^ *//'
}

# install_packages WHAT-FOR PACKAGE...: from the distribution; one line on failure.
install_packages() {
    purpose=$1
    shift
    command -v apt-get >/dev/null 2>&1 ||
        fail "$purpose is missing, and this is not a Debian or Ubuntu (no apt-get)." "Install it by hand: $*."
    can_be_root ||
        fail "$purpose is missing, and installing it needs root or sudo." "Run as root: apt-get install $*"
    say "Installing $purpose from the distribution's packages ($*) ..."
    log=$(mktemp)
    # A third party's broken source fails the update and need not stop us.
    if ! { as_root apt-get -q -o DPkg::Lock::Timeout=120 update || true
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
            -o DPkg::Lock::Timeout=120 install "$@"; } >"$log" 2>&1 </dev/null; then
        reason=$(first_reason "$log")
        rm -f "$log"
        fail "$purpose could not be installed: $reason." \
            "Check the network and apt's sources, or run as root: apt-get update && apt-get install $*"
    fi
    rm -f "$log"
}
