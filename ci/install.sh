# Installs what is missing. Sourced by ./run and ./test.

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# Debian and Ubuntu: `install_packages COMMAND-OR-FILE=PACKAGE …` installs the packages of those that are absent.
install_packages() {
    local missing=() pair
    for pair in "$@"; do
        if ! command -v "${pair%%=*}" >/dev/null 2>&1 && ! [ -e "${pair%%=*}" ]; then
            missing+=("${pair#*=}")
        fi
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "please install: ${missing[*]} (Debian's names)"
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "please install, as root: apt-get install ${missing[*]}"
        sudo=(sudo)
        [ -t 0 ] || sudo=(sudo -n)
    fi
    echo "Installing with apt: ${missing[*]}" >&2
    "${sudo[@]}" apt-get update -qq >&2 || true
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null 2>&1 ||
        fail "could not install: apt-get install ${missing[*]}"
}

install_for_build() {
    command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
    command -v cargo >/dev/null || fail "please install Rust 1.95 or later: https://rustup.rs"
    install_packages cc=gcc c++=g++ cmake=cmake pkg-config=pkg-config make=make \
        "/usr/include/alsa/asoundlib.h=libasound2-dev"
}
