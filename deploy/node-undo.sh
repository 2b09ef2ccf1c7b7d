#!/bin/sh
# Undoes what deploy/node.sh did on this machine, and nothing else: settings get their old values, addresses return to the
# uplink, the bridge and packages are removed only if node.sh added them. Idempotent.
#
#   deploy/node-undo.sh [--force] [--keep-packages]
#     --force           remove the bridge even if it has other ports, for instance those of pods
#     --keep-packages   leave Open vSwitch installed
set -eu
trap '' HUP # a connection over the interface that is moved may end; half a move must not stay

STATE=${HEADGATE_NODE_STATE:-}
if [ -z "$STATE" ]; then
    # A node that is a namespace of a machine may share its files with other nodes (node/host_settings.py).
    case $(readlink /proc/self/ns/uts) in
        '' | 'uts:[4026531838]') STATE=/var/lib/headgate-node ;;
        *) STATE=/var/lib/headgate-node/$(uname -n) ;;
    esac
fi
RUN_DIR=${HEADGATE_RUN_DIR:-/run/headgate}
force=no
packages=yes

# The terminal may be gone, where its connection was on what is being moved.
say() { printf '%s\n' "headgate-node: $*" >&2 || true; }

fail() {
    say "$@"
    exit 1
}

for argument; do
    case $argument in
        -h | --help)
            sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        --force) force=yes ;;
        --keep-packages) packages=no ;;
        *) fail "unknown option $argument (see --help)" ;;
    esac
done
[ "$(id -u)" -eq 0 ] || fail "this needs root"
if [ ! -e "$STATE/undo" ]; then
    say "there is nothing to undo"
    exit 0
fi

# each KIND COMMAND...: run the command with name and value of every saved step of that kind, and delete the step.
each() {
    kind=$1
    shift
    awk -F '\t' -v kind="$kind" '$1 == kind' "$STATE/undo" 2>/dev/null >"$STATE/notes" || not_written
    while IFS= read -r note <&3; do
        rest=${note#*	}
        "$@" "${rest%%	*}" "${rest#*	}"
        sync -f "$STATE" /etc 2>/dev/null || sync # if the power fails, no step is forgotten before it is on the disk
        grep -vxF -e "$note" "$STATE/undo" 2>/dev/null >"$STATE/undo.new" || [ $? -eq 1 ] || not_written # 1: none is left
        mv "$STATE/undo.new" "$STATE/undo"
    done 3<"$STATE/notes"
    rm "$STATE/notes"
}

not_written() { fail "$STATE cannot be written (is the disk full, or read-only?): mend that, then run this again"; }

# 142: ended by its alarm clock.
vsctl() {
    ovs-vsctl --timeout=30 "$@" || {
        code=$?
        [ "$code" -ne 142 ] || say "Open vSwitch did not answer in 30 s: start ovs-vswitchd, then run this again"
        return "$code"
    }
}

value() { vsctl --if-exists get "$1" "$2" "$3" | sed 's/^"\(.*\)"$/\1/'; }

has_bridge() { vsctl br-exists "$1" 2>/dev/null; }

has_link() { ip link show dev "$1" >/dev/null 2>&1; }

# remove_row KIND TABLE COLUMN "RECORD TARGET"
remove_row() {
    record=${4%% *}
    target=${4#* }
    [ "$2" != Bridge ] || has_bridge "$record" || return 0
    for row in $(vsctl get "$2" "$record" "$3" | tr -d '[],'); do
        [ "$(value "$1" "$row" target)" != "$target" ] || vsctl remove "$2" "$record" "$3" "$row"
    done
}

# put_back TABLE RECORD COLUMN KEY VALUE: no value means that there was none.
put_back() {
    if [ -n "$5" ]; then
        vsctl --if-exists set "$1" "$2" "$3:$4=\"$5\""
    else
        vsctl --if-exists remove "$1" "$2" "$3" "$4"
    fi
}

undo_role() { put_back Interface "$1" external_ids headgate-role "$2"; }
undo_hwaddr() { put_back Bridge "$1" other_config hwaddr ''; }
undo_hostname() { put_back Open_vSwitch . external_ids hostname "$2"; }
undo_name() { put_back Open_vSwitch . external_ids headgate-node-name "$2"; }

undo_ssl() {
    if [ -n "$2" ]; then
        # shellcheck disable=SC2086 # private key, certificate, CA certificate
        vsctl set-ssl $2
    else
        vsctl del-ssl
    fi
}

undo_port() { ! has_bridge "${1% *}" || vsctl --if-exists del-port "${1% *}" "${1#* }"; }

undo_remote() { ovs-appctl -t ovsdb-server ovsdb-server/remove-remote "$1" >/dev/null 2>&1 || true; }

undo_address() { ! has_link "$2" || ip addr del "$1" dev "$2" 2>/dev/null || true; }

# What belongs to an uplink: from the bridge back to it.
undo_uplink() {
    if [ -x "$STATE/headgate-node" ] && [ -f "$STATE/node.json" ]; then
        HEADGATE_NODE_STATE=$STATE "$STATE/headgate-node" clear
    fi
    rm -f "$STATE/headgate-node" "$STATE/node.json"
    rmdir "$RUN_DIR" 2>/dev/null || true
}

# A moved address, as earlier versions of node.sh noted it: from the bridge that has it now back to its interface.
undo_moved() {
    has_link "$2" || return 0
    ip -o addr show to "${1%/*}" | awk '{print $2}' | while read -r holder; do
        [ "$holder" = "$2" ] || ip addr del "$1" dev "$holder"
    done
    ip link set dev "$2" up
    case $1 in
        *:*) ip addr replace "$1" dev "$2" nodad ;;
        *) ip addr replace "$1" dev "$2" ;;
    esac
}

undo_route() {
    # shellcheck disable=SC2086 # the words of a route
    ! has_link "$2" || ip "-${1%% *}" route replace ${1#* } dev "$2"
}

check_bridge() {
    awk -F '\t' '$1 == "bridge" {print $2}' "$STATE/undo" | while read -r bridge; do
        has_bridge "$bridge" || continue
        left=$(vsctl list-ports "$bridge" | while read -r port; do
            grep -qxF "$(printf 'port\t%s %s\t' "$bridge" "$port")" "$STATE/undo" || printf '%s ' "$port"
        done)
        [ -z "$left" ] || [ "$force" = yes ] ||
            fail "on $bridge there are still ${left% }: remove them, or say --force"
    done
}

# Nothing to restore if the datapath is gone or Open vSwitch does not answer.
undo_fragments() {
    ovs-appctl dpctl/ipf-set-min-frag "$1" v4 "${2% *}" >/dev/null 2>&1 || true
    ovs-appctl dpctl/ipf-set-max-nfrags "$1" "${2#* }" >/dev/null 2>&1 || true
}

undo_sysctl() {
    [ ! -e "/proc/sys/net/$1" ] || echo "$2" 2>/dev/null >"/proc/sys/net/$1" || say "net/$1 cannot be set to $2 again"
}

# undo_program PROGRAM: first what it set up on the node.
undo_program() {
    waiting=$(cat "$RUN_DIR/node.pid" 2>/dev/null || true)
    if [ -n "$waiting" ] && tr '\0' ' ' <"/proc/$waiting/cmdline" 2>/dev/null | grep -qF "$1 apply"; then
        kill "$waiting" 2>/dev/null || true
    fi
    waiting=$(cat "$RUN_DIR/health.pid" 2>/dev/null || true)
    if [ -n "$waiting" ] && tr '\0' ' ' <"/proc/$waiting/cmdline" 2>/dev/null | grep -qE "/headgate(-node)? health "; then
        kill "$waiting" 2>/dev/null || true
    fi
    rm -f "$RUN_DIR/node.pid" "$RUN_DIR/node.log" "$RUN_DIR/health.pid"
    if [ -x "$1" ] && [ -f "$STATE/node.json" ]; then
        HEADGATE_NODE_STATE=$STATE "$1" clear
    fi
    rm -f "$1" "$(dirname "$1")/.$(basename "$1").new" "$STATE/node.json"
    rm -rf "$RUN_DIR/attachments" "$RUN_DIR/ipam"
    rmdir "$RUN_DIR" 2>/dev/null || true
}

undo_plugin() { rm -f "$1" "$(dirname "$1")/.$(basename "$1").new"; }

# undo_settings BRIDGE: what the controller wrote for the node.
undo_settings() {
    has_bridge "$1" || return 0
    for key in network encap pod-cidrs cluster-cidrs service-cidrs node-ips mtu node-ports revision; do
        vsctl remove Bridge "$1" external_ids "headgate-$key"
    done
}

undo_unit() {
    systemctl --quiet disable --now "$1" || true
    rm -f "$2"
    systemctl daemon-reload
}

undo_bridge() { vsctl --if-exists del-br "$1"; }

undo_service() { systemctl --quiet disable "$1"; }

# Never removes packages that were installed since and depend on one of them.
undo_packages() {
    [ "$packages" = yes ] || return 0
    # shellcheck disable=SC2086 # package names
    others=$(apt-get -s remove $1 | awk '/^Remv/ {print $2}' | while read -r package; do
        case " $1 " in *" $package "*) ;; *) printf '%s ' "$package" ;; esac
    done)
    if [ -n "$others" ]; then
        say "${others% } would go with Open vSwitch: leaving its packages installed"
        return 0
    fi
    # shellcheck disable=SC2086 # package names
    DEBIAN_FRONTEND=noninteractive apt-get -qq purge -y $1 >&2
}

! command -v ovs-vsctl >/dev/null 2>&1 || check_bridge
each unit undo_unit
each program undo_program
each plugin undo_plugin
if command -v ovs-vsctl >/dev/null 2>&1; then
    each Manager remove_row Manager Open_vSwitch manager_options
    each Controller remove_row Controller Bridge controller
    each remote undo_remote
    each ssl undo_ssl
    each address undo_address
    each role undo_role
    each port undo_port
    each settings undo_settings
    each uplink undo_uplink
    each moved undo_moved
    each route undo_route
    each hwaddr undo_hwaddr
    each fragments undo_fragments
    each bridge undo_bridge
    each headgate-node-name undo_name
    each hostname undo_hostname
    each service undo_service
fi
each sysctl undo_sysctl
each packages undo_packages
# A loss of power may have left parts of files.
rm -f "$STATE/undo" "$STATE/undo.new" "$STATE/notes" "$STATE/targets" "$STATE/.node.json.new"
rmdir "$STATE"
rmdir /var/lib/headgate-node 2>/dev/null || true # the last of several nodes' folders
say "done"
