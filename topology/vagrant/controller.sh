#!/bin/sh
# Provisions the controller of the Vagrant lab: etcd and kube-apiserver, the lab's objects, Headgate, and the machine
# outside the cluster that the truth tables need. Runs at every boot.
#   controller.sh ADDRESS...     the addresses of the machine outside
set -eu
# shellcheck source=topology/vagrant/common.sh
. /vagrant/topology/vagrant/common.sh
begin flat

home=/var/lib/headgate-lab
bin=/opt/kubernetes/bin
admin=$home/admin.kubeconfig

kubectl() { "$bin/kubectl" --kubeconfig="$admin" "$@"; }

make_credentials() {
    [ ! -e "$admin" ] || return 0
    mkdir -p "$home"
    chmod 700 "$home"
    openssl genrsa -out "$home/sa.key" 2048 2>/dev/null
    openssl rsa -in "$home/sa.key" -pubout -out "$home/sa.pub" 2>/dev/null
    token=$(openssl rand -hex 16)
    printf '%s,admin,1,"system:masters"\n' "$token" >"$home/tokens.csv"
    write_kubeconfig "$admin" "$token"
}

# write_kubeconfig FILE TOKEN: the CA's certificate is inside, so that the file is enough.
write_kubeconfig() {
    until [ -s "$home/certs/apiserver.crt" ]; do
        systemctl is-active --quiet lab-kube-apiserver || start_servers
        sleep 1
    done
    cat >"$1" <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: lab
    cluster:
      server: https://127.0.0.1:6443
      certificate-authority-data: $(base64 -w 0 "$home/certs/apiserver.crt")
users: [{name: lab, user: {token: $2}}]
contexts: [{name: lab, context: {cluster: lab, user: lab}}]
current-context: lab
YAML
}

# unit NAME COMMAND...
unit() {
    unit_name=$1
    shift
    cat >"/etc/systemd/system/$unit_name.service" <<UNIT
[Unit]
Description=$unit_name of the Headgate lab
After=network.target
[Service]
ExecStart=$*
Restart=on-failure
RestartSec=3
[Install]
WantedBy=multi-user.target
UNIT
}

start_servers() {
    unit lab-etcd "$bin/etcd" --data-dir "$home/etcd" --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 \
        --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 \
        --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380
    unit lab-kube-apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 "--cert-dir=$home/certs" \
        --bind-address=127.0.0.1 --secure-port=6443 --service-cluster-ip-range=10.96.0.0/16 \
        --service-account-issuer=https://kubernetes.default.svc "--service-account-key-file=$home/sa.pub" \
        "--service-account-signing-key-file=$home/sa.key" "--token-auth-file=$home/tokens.csv" \
        --authorization-mode=RBAC --disable-admission-plugins=ServiceAccount
    systemctl daemon-reload
    systemctl --quiet enable lab-etcd lab-kube-apiserver
    systemctl start lab-etcd lab-kube-apiserver
}

# A machine outside the cluster: on the pods' network, with addresses of its own.
be_outside() {
    card=$(pod_interface)
    ip link set dev "$card" up
    for address; do
        case $address in
            *:*)
                ip addr replace "$address/128" dev "$card" nodad
                ip -6 route replace fd10:10::/64 dev "$card" src "$address"
                ;;
            *)
                ip addr replace "$address/32" dev "$card"
                ip route replace 10.10.0.0/16 dev "$card" src "$address"
                ;;
        esac
    done
    headgate lab machine up outside -f "$TOPOLOGY"
}

if [ ! -x "$bin/kube-apiserver" ]; then
    echo "there is no kube-apiserver in $bin; on the host, run: vagrant reload controller" >&2
    exit 1
fi
# Before the servers start: without KVM they use most of the CPU.
need openssl openssl python3
need python3 python3
make_credentials
start_servers
wait_for_api
kubectl apply -f /vagrant/deploy/kubernetes/rbac.yaml \
    -f /vagrant/deploy/kubernetes/crd-networkpolicys.net.alpha.kubernetes.io.yaml >/dev/null
if [ ! -e /etc/headgate/kubeconfig ]; then
    # Before Headgate is installed, so that it starts only once.
    systemd-sysusers /vagrant/deploy/systemd/headgate.sysusers
    install -d -m 750 -g headgate /etc/headgate
    write_kubeconfig "$home/headgate.kubeconfig" \
        "$(kubectl create token headgate --namespace headgate --duration 8760h)"
    install -m 640 -g headgate "$home/headgate.kubeconfig" /etc/headgate/kubeconfig
fi
install_headgate --config /vagrant/deploy/headgate.yaml
headgate lab machine cluster -f "$TOPOLOGY" --kubeconfig "$admin"
be_outside "$@"
touch "$READY"
