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

# Which of the two labs this machine is of.
NETWORK_FILE=/var/lib/headgate-lab-network
# Of the cluster with HEADGATE_NETWORK=overlay: programs and images, and this machine's own files.
PROGRAMS=/opt/kubernetes LAB=/var/lib/headgate-lab
: "$PROGRAMS" "$LAB"

# begin NETWORK: the first step of each provisioning.
begin() {
    rm -f "$READY" "$FAILED"
    trap '[ $? -eq 0 ] || touch "$FAILED"' EXIT
    [ -e "$NETWORK_FILE" ] || echo "$1" >"$NETWORK_FILE"
    made=$(cat "$NETWORK_FILE")
    [ "$made" = "$1" ] || {
        echo "this machine was made with HEADGATE_NETWORK=$made, and cannot become one of $1: vagrant destroy -f" >&2
        exit 1
    }
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

# be_on_the_network ADDRESS/PREFIX...: the addresses of a cluster's machine, on the network that is the pods' in the other lab.
be_on_the_network() {
    card=$(pod_interface)
    for address; do
        case $address in
            *:*) ip addr replace "$address" dev "$card" nodad ;;
            *) ip addr replace "$address" dev "$card" ;;
        esac
    done
    ip link set dev "$card" up
}

# name_programs: all of Kubernetes is one program, which acts by its name.
name_programs() {
    for program in kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet; do
        ln -sfn hyper "$PROGRAMS/bin/$program"
    done
}

# take_pki NAME: what proves who this machine is. The host has made it (topology/vagrant/prepare).
take_pki() {
    [ -s "/vagrant/build/vagrant/cluster/machines/$1/pki/ca.crt" ] || {
        echo "there are no certificates for $1; on the host, run: vagrant reload $(hostname)" >&2
        exit 1
    }
    mkdir -p "$LAB"
    chmod 700 "$LAB"
    rm -rf "$LAB/pki"
    cp -R "/vagrant/build/vagrant/cluster/machines/$1/pki" "$LAB/pki"
    chmod -R go= "$LAB/pki"
}

# wait_for_api: until the API server of this machine is ready; `kubectl` must lead to it.
wait_for_api() {
    tries=0
    until [ "$(kubectl get --raw /readyz 2>/dev/null)" = ok ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 60 ]; then
            echo "kube-apiserver does not get ready: journalctl -u lab-kube-apiserver" >&2
            exit 1
        fi
        sleep 10 # asking costs kubectl more time than the server has to spare where there is no KVM
    done
}
