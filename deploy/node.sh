#!/bin/sh
# Sets this machine up as a node whose pods Headgate protects: Open vSwitch, the bridge with its uplink, and the manager
# and controller targets. Idempotent; deploy/node-undo.sh undoes exactly what it did.
#
#   deploy/node.sh --controller HOST [options]
#     --controller HOST     name or address of the controller node; repeat it for each replica of the controller
#     --name NAME           the Node's name in Kubernetes   (default: the kubelet's, by its certificate; else what Open
#                           vSwitch has, unless that is the host name as its own scripts write it; else the host name
#                           in small letters, as the kubelet makes it)
#     --bridge NAME         the bridge that pods are on           (default: br-int)
#     --datapath TYPE       datapath type of the bridge: system or netdev. One that is there keeps its type: another
#                           is refused   (default: that of the bridge, system for a new one)
#     --uplink INTERFACE    add this interface to the bridge: it connects to the other nodes
#     --move-addresses      move the uplink's addresses and routes to the bridge's own port
#     --address CIDR        add this address to the bridge's own port; repeatable
#     --openflow-port PORT  (default: 6653)        --ovsdb-port PORT  (default: 6640)
#     --ca FILE --certificate FILE --key FILE      use TLS with these files
#     --in-band | --out-of-band   how the switch reaches the controller   (default: in-band with --move-addresses)
#
# For a cluster on Headgate's own network (--network routed or overlay); see docs/node.md:
#     --cni                 install the CNI plugin and headgate-node, which sets up the node's routes and its nft table
#     --underlay INTERFACE  put this interface on a bridge of its own, with its addresses and routes: what the userspace
#                           datapath (netdev) needs for tunnels
#     --no-masquerade       let pods leave the cluster with their own addresses
#     --wait SECONDS        wait so long for the controller before leaving the rest to the unit   (default: 10)
#   CNI_BIN_DIR (/opt/cni/bin), CNI_CONF_DIR (/etc/cni/net.d), HEADGATE_SBIN_DIR (/usr/local/sbin) say where files go.
#
# --move-addresses needs Python 3.9 or newer, and with netdev the program nft. The addresses that it moves and those of
# --address are lost at the next boot: add them to the machine's network configuration as well, or run this again at boot.
# Open vSwitch and headgate-node keep everything else.
set -eu
umask 022   # nobody else may write what the undo reads
trap '' HUP # a connection over the interface that is moved may end; half a move must not stay

STATE=${HEADGATE_NODE_STATE:-}
if [ -z "$STATE" ]; then
    # A node that is a namespace of a machine may share its files with other nodes (node/host_settings.py).
    case $(readlink /proc/self/ns/uts) in
        '' | 'uts:[4026531838]') STATE=/var/lib/headgate-node ;;
        *) STATE=/var/lib/headgate-node/$(uname -n) ;;
    esac
fi
KUBELET_CERTIFICATE=${KUBELET_CERTIFICATE:-/var/lib/kubelet/pki/kubelet-client-current.pem}
TAB=$(printf '\t') MANAGERS=db:Open_vSwitch,Open_vSwitch,manager_options
CABLE=headgate-ul-sw DATAPATH=netdev@ovs-netdev LEAST_FRAGMENT=400 MOST_FRAGMENTS=5000   # the least and the most that can be set
FRAGMENT_MEMORY=67108864 # bytes; docs/adr/0012 says why so many
PROBE=15000   # milliseconds of silence after which Open vSwitch asks a controller whether it is there
controllers='' name='' bridge=br-int datapath='' uplink='' move=no addresses=''
openflow_port=6653 ovsdb_port=6640 ca='' certificate='' key='' mode='' outcome='is ready'
cni=no underlay='' masquerade=yes patience=10 here=$(cd "$(dirname "$0")" && pwd)

# The terminal may be gone, where its connection was on what is being moved.
say() { printf '%s\n' "headgate-node: $*" >&2 || true; }

fail() {
    say "$@"
    exit 1
}

usage() {
    sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
}

without_port() { fail "--controller needs a name or address, and got $1: --openflow-port and --ovsdb-port give ports"; }

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --move-addresses) move=yes; shift; continue ;;
        --in-band) mode=in-band; shift; continue ;;
        --out-of-band) mode=out-of-band; shift; continue ;;
        --cni) cni=yes; shift; continue ;;
        --no-masquerade) masquerade=no; shift; continue ;;
    esac
    [ $# -ge 2 ] || fail "$1 needs a value, or is unknown (see --help)"
    case $2 in
        '') fail "$1 needs a value, and got an empty one" ;;
        -*) fail "$1 needs a value before $2, or is unknown (see --help)" ;;
    esac
    case $1 in
        --controller)
            case $2 in
                *[!][A-Za-z0-9.:%_-]*) fail "--controller needs one name or address, and got $2" ;;
                \[*\]) controllers="$controllers $2" ;;
                \[*) without_port "$2" ;;
                *:*:*) controllers="$controllers [$2]" ;;
                *:*) without_port "$2" ;;
                *) controllers="$controllers $2" ;;
            esac
            ;;
        --name) name=$2 ;;
        --bridge) bridge=$2 ;;
        --datapath) datapath=$2 ;;
        --uplink) uplink=$2 ;;
        --underlay) underlay=$2 ;;
        --wait) patience=$2 ;;
        --address) addresses="$addresses $2" ;;
        --openflow-port) openflow_port=$2 ;;
        --ovsdb-port) ovsdb_port=$2 ;;
        --ca) ca=$2 ;;
        --certificate) certificate=$2 ;;
        --key) key=$2 ;;
        *) fail "unknown option $1 (see --help)" ;;
    esac
    shift 2
done

case $datapath in '' | system | netdev) ;; *) fail "--datapath is system or netdev" ;; esac
[ -n "$controllers" ] || fail "give the controller with --controller HOST"
[ "$move" = no ] || [ -n "$uplink" ] || fail "--move-addresses needs --uplink INTERFACE"
[ "$cni" = yes ] || [ "$underlay$masquerade" = yes ] || fail "--underlay and --no-masquerade need --cni"
[ "$cni" = no ] || [ -z "$uplink" ] || fail "--uplink is for a flat network: with --cni it is --underlay"
case $name in
    *[!a-z0-9.-]* | [.-]* | *[.-]) fail "--name is the Node's name, of small letters, digits, - and ., and got $name" ;;
esac
case $bridge in
    ????????????????* | *[!A-Za-z0-9._-]*) fail "--bridge needs an interface's name, of up to 15 letters, digits, ., _ and -" ;;
esac
for number in "$openflow_port" "$ovsdb_port"; do
    case $number in *[!0-9]* | ??????*) number=0 ;; esac
    [ "$number" -gt 0 ] && [ "$number" -le 65535 ] || fail "--openflow-port and --ovsdb-port need a number up to 65535"
done
case $patience in '' | *[!0-9]*) fail "--wait needs a number of seconds" ;; esac
case $ca$certificate$key in
    '') scheme=tcp ;;
    *)
        scheme=ssl
        for file in "$ca" "$certificate" "$key"; do
            [ -n "$file" ] || fail "TLS needs all three: --ca, --certificate and --key"
            [ -r "$file" ] || fail "$file cannot be read"
            case $file in /*) ;; *) fail "$file: Open vSwitch needs the full path" ;; esac
        done
        ;;
esac
[ -n "$mode" ] || { [ "$move" = yes ] && mode=in-band || mode=out-of-band; }
[ "$(id -u)" -eq 0 ] || fail "this needs root"

# remember KIND NAME [VALUE]: save how to undo the next step. The value of the first run is kept on later runs.
remember() {
    ! known "$1" "$2" || return 0
    { mkdir -p "$STATE" && with_note "$@" >"$STATE/undo.new" && to_disk "$STATE/undo.new" &&
        mv "$STATE/undo.new" "$STATE/undo" && to_disk "$STATE"; } 2>/dev/null ||
        fail "$STATE/undo cannot be written (is the disk full, or read-only?): this stopped before what could not be undone"
}

# to_disk [-f] FILE...: so that what follows is not on the disk before it, if the power fails; -f: all of their file systems.
to_disk() { sync "$@" 2>/dev/null || sync; }

with_note() {
    [ ! -f "$STATE/undo" ] || cat "$STATE/undo" || return 1
    printf '%s\t%s\t%s\n' "$1" "$2" "${3-}"
}

# known KIND NAME: whether an earlier run has done this.
known() { [ -f "$STATE/undo" ] && cut -f 1,2 "$STATE/undo" | grep -qxF "$1$TAB$2"; }

# noted KIND: the name of the first step of that kind that an earlier run has done, nothing if there is none.
noted() { [ ! -f "$STATE/undo" ] || awk -F '\t' -v kind="$1" '$1 == kind {print $2; exit}' "$STATE/undo"; }

# forget KIND NAME: it has been undone.
forget() {
    awk -F '\t' -v kind="$1" -v name="$2" '!($1 == kind && $2 == name)' "$STATE/undo" >"$STATE/undo.new"
    mv "$STATE/undo.new" "$STATE/undo"
}

# 142: ended by its alarm clock.
vsctl() {
    ovs-vsctl --timeout=30 "$@" || {
        code=$?
        [ "$code" -ne 142 ] || say "Open vSwitch did not answer in 30 s: start ovs-vswitchd, then run this again"
        return "$code"
    }
}

# value TABLE RECORD COLUMN:KEY: the value without quotes, nothing if there is none.
value() { vsctl --if-exists get "$1" "$2" "$3" | sed 's/^"\(.*\)"$/\1/'; }

if [ "$cni" = yes ] || [ "$move" = yes ]; then
    # shellcheck source=deploy/node-cni.sh
    . "$here/node-cni.sh"
fi

# --- Open vSwitch ------------------------------------------------------------------------------------------------------

packages() { dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii *//p' | sort; }

install_ovs() {
    command -v ovs-vsctl >/dev/null 2>&1 && return
    command -v apt-get >/dev/null 2>&1 || fail "Open vSwitch is not installed: install it, then run this again"
    say "installing Open vSwitch"
    mkdir -p "$STATE"
    packages >"$STATE/packages.before"
    apt-get -qq update >&2 || say "the lists of packages are not renewed"
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends openvswitch-switch >&2 ||
        fail "Open vSwitch cannot be installed: install the package openvswitch-switch, then run this again"
    remember packages "$(packages | comm -13 "$STATE/packages.before" - | tr '\n' ' ' | sed 's/ $//')"
    rm "$STATE/packages.before"
}

start_ovs() {
    ovs-vsctl --timeout=5 --no-wait get Open_vSwitch . _uuid >/dev/null 2>&1 && return
    [ -d /run/systemd/system ] || fail "ovsdb-server does not answer: start Open vSwitch, then run this again"
    if ! systemctl is-enabled --quiet openvswitch-switch; then
        remember service openvswitch-switch
        systemctl --quiet enable openvswitch-switch
    fi
    systemctl start openvswitch-switch
}

# --- the bridge --------------------------------------------------------------------------------------------------------

# Before anything is changed: a bridge cannot become one of another type while ports are on it.
check_datapath() {
    [ -n "$datapath" ] && vsctl br-exists "$bridge" || return 0
    standing=$(value Bridge "$bridge" datapath_type)
    [ "${standing:-system}" = "$datapath" ] || fail "the bridge $bridge has the datapath type ${standing:-system} already:" \
        "leave --datapath out, or remove the bridge (node-undo.sh does where node.sh made it) before another is named"
}

# A bridge without a device is taken away again: it would keep another --datapath from being named.
make_bridge() {
    if ! vsctl br-exists "$bridge"; then
        remember bridge "$bridge"
        vsctl add-br "$bridge" -- set Bridge "$bridge" fail_mode=secure datapath_type="${datapath:-system}"
        if ! has_device "$bridge"; then
            vsctl del-br "$bridge"
            forget bridge "$bridge"
            no_device "${datapath:-system}"
        fi
    fi
    has_device "$bridge" || no_device "$(value Bridge "$bridge" datapath_type)"
}

has_device() { ip link show dev "$1" >/dev/null 2>&1; }

no_device() {
    why="the log of ovs-vswitchd says why"
    [ "$1" = netdev ] || why="has the kernel its module (modprobe openvswitch)? --datapath netdev does without"
    fail "Open vSwitch made no device $bridge: $why"
}

# fragments NAME: the number that the userspace datapath reports under that name about fragments.
fragments() { ovs-appctl dpctl/ipf-get-status "$DATAPATH" 2>/dev/null | sed -n "s/^ *$1: *\([0-9]*\)\$/\1/p"; }

take_fragments() {
    case $(value Bridge "$bridge" datapath_type) in
        netdev) take_fragments_in_userspace ;;
        *) keep_fragments_in_kernel ;;
    esac
}

# The kernel gives 4 MiB to fragments that wait for the rest of their packets, which those of one pod can fill. It forgets
# the settings at a boot: run this again then; with --cni headgate-node's unit does.
keep_fragments_in_kernel() {
    for key in ipv4/ipfrag_high_thresh netfilter/nf_conntrack_frag6_high_thresh; do
        most=$(cat "/proc/sys/net/$key" 2>/dev/null) || {
            say "this kernel has no net/$key: leaving what it keeps of fragments as it is"
            continue
        }
        [ "$most" -lt "$FRAGMENT_MEMORY" ] || continue
        remember sysctl "$key" "$most"
        echo "$FRAGMENT_MEMORY" 2>/dev/null >"/proc/sys/net/$key" || say "net/$key cannot be set: fewer fragments may wait"
    done
}

# The userspace datapath drops legal IPv4 fragments of less than 1200 bytes, and keeps 1000 for reassembly. Open vSwitch
# does not save these two settings: run this again after a restart of ovs-vswitchd; with --cni headgate-node's unit does.
take_fragments_in_userspace() {
    least=$(fragments 'min v4 frag size') most=$(fragments 'max num frags (v4\/v6)')
    if [ -z "$least" ] || [ -z "$most" ]; then
        say "this Open vSwitch does not say how it takes fragments: leaving that as it is"
        return 0
    fi
    [ "$least $most" != "$LEAST_FRAGMENT $MOST_FRAGMENTS" ] || return 0
    remember fragments "$DATAPATH" "$least $most"
    ovs-appctl dpctl/ipf-set-min-frag "$DATAPATH" v4 "$LEAST_FRAGMENT" >/dev/null ||
        say "Open vSwitch refused to take small fragments"
    ovs-appctl dpctl/ipf-set-max-nfrags "$DATAPATH" "$MOST_FRAGMENTS" >/dev/null ||
        say "Open vSwitch refused to let more fragments wait"
}

# The addresses of an interface, one a line; only those set by an administrator or DHCP.
own_addresses() { ip -o addr show dev "$1" scope global | awk '{print $4}'; }

# Without duplicate address detection, so that the IPv6 address can be used at once.
give_address() {
    case $1 in
        *:*) ip addr replace "$1" dev "$bridge" nodad ;;
        *) ip addr replace "$1" dev "$bridge" ;;
    esac
}

make_uplink() {
    [ -n "$uplink" ] || return 0
    ip link show dev "$uplink" >/dev/null || fail "there is no interface $uplink"
    port=$uplink
    if [ "$move" = yes ] || known uplink "$uplink"; then
        [ "$(value Bridge "$bridge" datapath_type)" != netdev ] || port=$CABLE
    fi
    leave_port
    on=$(vsctl iface-to-br "$port" 2>/dev/null || true)
    case $on in
        "$bridge") ;;
        '')
            remember port "$bridge $port"
            if [ -z "$(value Bridge "$bridge" other_config:hwaddr)" ]; then
                remember hwaddr "$bridge"
                mac=$(ip -o link show dev "$uplink" | sed 's|.*link/ether \([^ ]*\).*|\1|')
                vsctl set Bridge "$bridge" "other_config:hwaddr=\"$mac\""
            fi
            vsctl --no-wait add-port "$bridge" "$port" # a cable is made when the addresses move
            ;;
        *) fail "$port is on the bridge $on" ;;
    esac
    role=$(value Interface "$port" external_ids:headgate-role)
    if [ "$role" != uplink ]; then
        remember role "$port" "$role"
        vsctl --no-wait set Interface "$port" external_ids:headgate-role=uplink
    fi
    ip link set dev "$uplink" up
}

# leave_port: an interface with a cable is no port itself, as earlier versions made it.
leave_port() {
    [ "$port" = "$CABLE" ] && [ "$(vsctl iface-to-br "$uplink" 2>/dev/null || true)" = "$bridge" ] || return 0
    known port "$bridge $uplink" ||
        fail "$uplink is a port of $bridge: take it off (ovs-vsctl del-port $uplink), for its addresses move by another way"
    vsctl del-port "$bridge" "$uplink"
    forget port "$bridge $uplink"
    ! known role "$uplink" || forget role "$uplink"
}

set_up_local() {
    ip link set dev "$bridge" up
    for address in $addresses; do
        if ! own_addresses "$bridge" | grep -qxF "$address"; then
            remember address "$address" "$bridge"
            give_address "$address"
        fi
    done
}

# --- the connection to the controller ----------------------------------------------------------------------------------

lower() { printf '%s\n' "$1" | tr '[:upper:]' '[:lower:]'; }

# The Node's name from the kubelet's client certificate (its common name is system:node:NAME), nothing if there is none.
kubelet_name() {
    [ -r "$KUBELET_CERTIFICATE" ] && command -v openssl >/dev/null 2>&1 || return 0
    openssl x509 -noout -subject -nameopt multiline -in "$KUBELET_CERTIFICATE" 2>/dev/null |
        sed -n 's/^ *commonName *= *system:node://p'
}

# is_host_name NAME: whether this is the host's name, in any case, with or without its domain.
is_host_name() { [ "$(lower "${1%%.*}")" = "$(lower "$(hostname | sed 's/\..*//')")" ]; }

name_node() {
    standing=$(value Open_vSwitch . external_ids:headgate-node-name)
    standing=${standing:-$(value Open_vSwitch . external_ids:hostname)}
    wanted=${name:-$(kubelet_name)}
    if [ -z "$wanted" ]; then
        wanted=$standing
        if [ -z "$standing" ] || is_host_name "$standing"; then
            wanted=$(lower "$(hostname)")
        fi
    fi
    set_name headgate-node-name "$wanted"
    set_name hostname "$wanted"
}

# set_name KEY NAME: Open vSwitch's own scripts write the host name into `hostname`, releases as 3.1 over any other, at each
# start. So the name stands in a key that they do not know, too.
set_name() {
    standing=$(value Open_vSwitch . "external_ids:$1")
    if [ "$standing" != "$2" ]; then
        remember "$1" . "$standing"
        vsctl set Open_vSwitch . "external_ids:$1=\"$2\""
    fi
}

set_tls() {
    [ "$scheme" = ssl ] || return 0
    standing=$(vsctl --if-exists get SSL . private_key certificate ca_cert 2>/dev/null | tr -d '"' | tr '\n' ' ' || true)
    if [ "$standing" != "$key $certificate $ca " ]; then
        remember ssl . "$standing"
        vsctl set-ssl "$key" "$certificate" "$ca"
    fi
}

# Managers stand in the database, and ovsdb-server reads them there when it was started so, as packages do. A server that
# was started otherwise is told: run this again after its restart.
listen_to_managers() {
    remotes=$(ovs-appctl -t ovsdb-server ovsdb-server/list-remotes 2>/dev/null) || {
        say "ovsdb-server has no control socket in its folder: make sure that it was started with --remote=$MANAGERS"
        return 0
    }
    ! printf '%s\n' "$remotes" | grep -qxF "$MANAGERS" || return 0
    remember remote "$MANAGERS"
    ovs-appctl -t ovsdb-server ovsdb-server/add-remote "$MANAGERS"
}

# targets PORT: the target on each controller, one a line.
targets() {
    for host in $controllers; do
        printf '%s\n' "$scheme:$host:$1"
    done
}

# lead_all KIND TABLE RECORD COLUMN PORT: ensure exactly one row for each controller, and none of an earlier run with
# another target.
lead_all() {
    drop_others "$@"
    for one in $(targets "$5"); do
        lead "$1" "$2" "$3" "$4" "$one"
    done
}

drop_others() {
    [ ! -f "$STATE/undo" ] || awk -F '\t' -v kind="$1" '$1 == kind {print $2}' "$STATE/undo" >"$STATE/targets"
    if [ -f "$STATE/targets" ]; then
        while read -r old; do
            if [ "${old%% *}" != "$3" ] || ! targets "$5" | grep -qxF "${old#* }"; then
                drop_row "$2" "${old%% *}" "$4" "${old#* }"
                forget "$1" "$old"
            fi
        done <"$STATE/targets"
        rm "$STATE/targets"
    fi
}

# lead KIND TABLE RECORD COLUMN TARGET: ensure exactly one row with the target. PROBE: docs/ha.md says why so long.
lead() {
    row=$(find_row "$1" "$2" "$3" "$4" "$5")
    if [ -z "$row" ]; then
        remember "$1" "$3 $5"
        vsctl -- --id=@new create "$1" "target=\"$5\"" "connection_mode=$mode" \
            "inactivity_probe=$PROBE" -- add "$2" "$3" "$4" @new >/dev/null
    elif known "$1" "$3 $5"; then
        [ "$(value "$1" "$row" connection_mode)" = "$mode" ] || vsctl set "$1" "$row" "connection_mode=$mode"
        [ "$(value "$1" "$row" inactivity_probe)" = "$PROBE" ] || vsctl set "$1" "$row" "inactivity_probe=$PROBE"
    fi
}

# find_row KIND TABLE RECORD COLUMN TARGET: the row's uuid, nothing if there is none.
find_row() {
    for row in $(vsctl get "$2" "$3" "$4" | tr -d '[],'); do
        [ "$(value "$1" "$row" target)" != "$5" ] || { echo "$row"; return; }
    done
}

# drop_row TABLE RECORD COLUMN TARGET
drop_row() {
    case $3 in controller) kind=Controller ;; *) kind=Manager ;; esac
    row=$(find_row "$kind" "$1" "$2" "$3" "$4")
    [ -z "$row" ] || vsctl remove "$1" "$2" "$3" "$row"
}

[ "$cni" = yes ] || [ -z "$(noted plugin)" ] ||
    fail "this is a node of Headgate's own network: say --cni, or run node-undo.sh before it becomes one of a flat network"
[ "$cni" = no ] || check_cni
install_ovs
start_ovs
check_datapath
[ -z "$underlay" ] || check_underlay_is_free
[ "$move" = no ] || check_move
name_node
set_tls
make_bridge
take_fragments
make_uplink
[ "$cni" = no ] || prepare_network
set_up_local
lead_all Controller Bridge "$bridge" controller "$openflow_port"
listen_to_managers
lead_all Manager Open_vSwitch . manager_options "$ovsdb_port"
# Last: if the controller is reached over the bridge, in-band control has set its flows by now.
[ "$move" = no ] || move_addresses
[ "$cni" = no ] || apply_network
to_disk -f "$STATE" /etc /usr/local /opt
say "$(value Open_vSwitch . external_ids:headgate-node-name) $outcome: $bridge leads to $scheme:$(printf '%s' "$controllers" | sed 's/^ //; s/ /, /g')"
