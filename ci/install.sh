# Installs missing packages. Sourced by ./run and ./test.

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# Debian and Ubuntu: `install_packages COMMAND-OR-FILE=PACKAGE …` installs a package if its command or file is missing.
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

# Installs for this user alone what the second implementation needs. If that fails, its tests say so and are skipped.
install_for_second_implementation() {
    python3 -c "import blake3, cryptography.hazmat.primitives.kdf.argon2, zstandard" 2>/dev/null && return 0
    (install_packages python3=python3 && install_libraries blake3 'cryptography>=44' zstandard) ||
        echo "The second implementation is not tested: it needs python3 with blake3, cryptography 44 or later, and zstandard" >&2
}

# Python packages, by pip: into the user's own folder, or the active virtual environment.
install_libraries() {
    python3 -m pip --version >/dev/null 2>&1 || install_packages /usr/bin/pip3=python3-pip
    local user=(--user)
    [ "$(python3 -c 'import sys; print(sys.prefix != sys.base_prefix)')" = False ] || user=()
    echo "Installing with pip: $*" >&2
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --disable-pip-version-check "${user[@]}" "$@" >&2
}
