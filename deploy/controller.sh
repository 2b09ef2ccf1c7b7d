#!/bin/sh
# Installs Headgate on this machine as a service: the program in /opt/headgate, its configuration in /etc/headgate. Run it
# again to upgrade: the flows stay on the switches meanwhile, and unchanged flows are not sent again.
#
#   deploy/controller.sh [options]
#     --config FILE      install this configuration (default: the existing one, or else deploy/headgate.yaml)
#     --packages DIR     install this folder made by scripts/packages, instead of building an environment with pip
#     --program-only     no service and no configuration: only the command, /opt/headgate/bin/headgate
#
# To remove it: systemctl disable --now headgate; rm -r /opt/headgate /etc/systemd/system/headgate.service.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
prefix=/opt/headgate
config=''
packages=''
service=yes

say() { printf '%s\n' "headgate: $*" >&2; }

fail() {
    say "$@"
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --program-only) service=no; shift; continue ;;
    esac
    [ $# -ge 2 ] || fail "$1 needs a value, or is unknown (see --help)"
    case $1 in
        --config) config=$2 ;;
        --packages) packages=$2 ;;
        *) fail "unknown option $1 (see --help)" ;;
    esac
    shift 2
done
[ "$(id -u)" -eq 0 ] || fail "this needs root"

# The new program is built beside the old one and then replaces it as a whole.
build() {
    rm -rf "$prefix.new"
    if [ -n "$packages" ]; then
        made_for=$(cat "$packages/.python" 2>/dev/null) || fail "$packages was not made by scripts/packages"
        have=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        [ "$made_for" = "$have" ] || fail "$packages is for Python $made_for, here is $have"
        mkdir -p "$prefix.new/bin"
        cp -a "$packages" "$prefix.new/lib"
        # -P: a folder called `controller` in the working directory is not imported.
        printf '#!/bin/sh\nPYTHONPATH=%s/lib exec /usr/bin/python3 -P -m controller "$@"\n' "$prefix" \
            >"$prefix.new/bin/headgate"
        chmod 755 "$prefix.new/bin/headgate"
    else
        python3 -m venv "$prefix.new" || fail "python3 -m venv does not work: install python3-venv"
        "$prefix.new/bin/python" -m pip install --quiet --disable-pip-version-check \
            --constraint "$here/requirements/constraints.txt" "$here"
        # An environment contains the path where it was built.
        sed -i "1s|^#!$prefix\.new/|#!$prefix/|" "$prefix.new"/bin/*
    fi
}

unchanged() { [ -n "$packages" ] && [ -d "$prefix/lib" ] && diff -rq -x __pycache__ "$packages" "$prefix/lib" >/dev/null 2>&1; }

install_program() {
    ! unchanged || return 0
    build
    rm -rf "$prefix.old"
    [ ! -e "$prefix" ] || mv "$prefix" "$prefix.old"
    mv "$prefix.new" "$prefix"
    rm -rf "$prefix.old"
    restart=yes
}

# put MODE OWNER SOURCE TARGET: install a file; if it changed, the service is restarted.
put() {
    if ! cmp -s "$3" "$4"; then
        install -D -m "$1" -o root -g "$2" "$3" "$4"
        restart=yes
    fi
}

install_service() {
    put 644 root "$here/deploy/systemd/headgate.sysusers" /etc/sysusers.d/headgate.conf
    systemd-sysusers /etc/sysusers.d/headgate.conf
    install -d -m 750 -o root -g headgate /etc/headgate
    if [ -n "$config" ]; then
        put 640 headgate "$config" /etc/headgate/headgate.yaml
    elif [ ! -e /etc/headgate/headgate.yaml ]; then
        put 640 headgate "$here/deploy/headgate.yaml" /etc/headgate/headgate.yaml
    fi
    put 644 root "$here/deploy/systemd/headgate.service" /etc/systemd/system/headgate.service
    systemctl daemon-reload
    systemctl --quiet enable headgate
    if [ "$restart" = yes ] || ! systemctl is-active --quiet headgate; then
        systemctl restart headgate
    fi
}

restart=no
install_program
[ "$service" = no ] || install_service
say "$("$prefix/bin/headgate" --version) is installed"
