#!/bin/sh
# Provisions the control plane of the Vagrant lab's cluster (HEADGATE_NETWORK=overlay): etcd, kube-apiserver, controller
# manager, scheduler, and Headgate as the only network. The machine is no node. Runs at every boot.
set -eu
# shellcheck source=topology/vagrant/common.sh
. /vagrant/topology/vagrant/common.sh
begin overlay

kubectl() { "$PROGRAMS/bin/kubectl" --kubeconfig="$LAB/pki/admin.kubeconfig" "$@"; }

# The kubeconfig is there before Headgate is installed, so that it starts only once.
allow_headgate() {
    systemd-sysusers /vagrant/deploy/systemd/headgate.sysusers
    install -d -m 750 -g headgate /etc/headgate
    install -m 640 -g headgate "$LAB/pki/headgate.kubeconfig" /etc/headgate/kubeconfig
    cp /vagrant/deploy/headgate.yaml "$LAB/headgate.yaml"
    printf '\nnetwork: overlay\npod_cidr: [10.244.0.0/16, "fd00:10:244::/56"]\n' >>"$LAB/headgate.yaml"
}

be_on_the_network 172.31.0.1/24 fd00:172:31::1/64
name_programs
install_headgate --program-only
take_pki control
units=$(headgate lab machine control-plane "$LAB")
systemctl daemon-reload
# shellcheck disable=SC2086 # words
systemctl --quiet enable --now $units
wait_for_api
kubectl apply -f /vagrant/deploy/kubernetes/rbac.yaml \
    -f /vagrant/deploy/kubernetes/crd-networkpolicys.net.alpha.kubernetes.io.yaml >/dev/null
allow_headgate
install_headgate --config "$LAB/headgate.yaml"
touch "$READY"
