#!/bin/sh
# Provisions a node of the Vagrant lab's cluster (HEADGATE_NETWORK=overlay), as docs/cluster.md has it: containerd, kubelet,
# and `deploy/node.sh --cni` on the kernel's datapath. Runs at every boot.
#   cluster-node.sh NUMBER
set -eu
# shellcheck source=topology/vagrant/common.sh
. /vagrant/topology/vagrant/common.sh
begin overlay

number=$1
name=n$number

# containerd reads the lab's settings, and has the images: there is no registry.
set_up_containerd() {
    mkdir -p /etc/containerd
    if ! cmp -s /etc/kubernetes/containerd.toml /etc/containerd/config.toml; then
        cp /etc/kubernetes/containerd.toml /etc/containerd/config.toml
        systemctl restart containerd
    fi
    for image in "$PROGRAMS"/img/*.tar; do
        ctr --namespace k8s.io images import "$image" >/dev/null
    done
}

# Debian's package has the standard plugins elsewhere than kubelets and containerd look.
link_plugins() {
    mkdir -p /opt/cni/bin
    for plugin in /usr/lib/cni/*; do
        [ -e "/opt/cni/bin/${plugin##*/}" ] || ln -s "$plugin" /opt/cni/bin/
    done
}

be_on_the_network "172.31.0.$((10 + number))/24" "fd00:172:31::$((10 + number))/64"
need containerd containerd runc containernetworking-plugins nftables iptables conntrack ethtool
name_programs
install_headgate --program-only
take_pki "$name"
unit=$(headgate lab machine kubelet "$LAB" "$number")
echo 'nameserver 10.96.0.10' >/run/resolv.conf
set_up_containerd
link_plugins
/vagrant/deploy/node.sh --controller 172.31.0.1 --name "$name" --cni
systemctl daemon-reload
systemctl --quiet enable "$unit"
systemctl restart "$unit"
touch "$READY"
