# Functions of the provisioning scripts of the Vagrant lab; sourced with `.`, not run.
# shellcheck shell=sh

TOPOLOGY=/vagrant/build/vagrant/topology.json
export DEBIAN_FRONTEND=noninteractive
# Exists while no provisioning runs: `matrix` waits for it.
READY=/run/headgate-vagrant-ready
# Exists after provisioning has failed, so that `matrix` need not wait.
FAILED=/run/headgate-vagrant-failed
# Used by the scripts that source this file:
: "$TOPOLOGY"

# begin: the first step of each provisioning.
begin() {
    rm -f "$READY" "$FAILED"
    trap '[ $? -eq 0 ] || touch "$FAILED"' EXIT
}

# need PROGRAM PACKAGE...: install packages if the program is missing.
need() {
    program=$1
    shift
    command -v "$program" >/dev/null 2>&1 && return
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# install_headgate OPTION...: from the packages that the host has prepared, if they fit, else with pip.
install_headgate() {
    need python3 python3
    have=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(cat /vagrant/build/packages/.python 2>/dev/null)" = "$have" ]; then
        /vagrant/deploy/controller.sh --packages /vagrant/build/packages "$@"
    else
        need pip3 python3-venv python3-pip
        /vagrant/deploy/controller.sh "$@"
    fi
    ln -sfn /opt/headgate/bin/headgate /usr/local/bin/headgate
}

# pod_interface: the network card of the pods' network: neither the default route's nor that of 192.168.56.x.
pod_interface() {
    for path in /sys/class/net/*/device; do
        name=${path%/device}
        name=${name##*/}
        ip route show default dev "$name" | grep -q . && continue
        ip -o -4 addr show dev "$name" | grep -q ' 192\.168\.56\.' && continue
        echo "$name"
        return
    done
    echo "there is no network card for the pods' network" >&2
    return 1
}
