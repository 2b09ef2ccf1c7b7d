#!/bin/sh
# Provisions a node of the Vagrant lab: deploy/node.sh, then the node's pods. Runs at every boot.
#   node.sh NAME CONTROLLER ADDRESS/PREFIX...
set -eu
# shellcheck source=topology/vagrant/common.sh
. /vagrant/topology/vagrant/common.sh
begin flat

name=$1
controller=$2
shift 2
addresses=''
for address; do
    addresses="$addresses --address $address"
done

install_headgate --program-only
# shellcheck disable=SC2086 # words
/vagrant/deploy/node.sh --name "$name" --controller "$controller" --uplink "$(pod_interface)" $addresses
headgate lab machine up "$name" -f "$TOPOLOGY"
touch "$READY"
