# The part of deploy/node.sh for which headgate-node does the work: a node of Headgate's own network (--cni), and the move of
# an uplink's addresses (--move-addresses). Read by node.sh, which has the variables and the
# functions `say`, `fail`, `remember`, `vsctl` and `value`.
# shellcheck shell=sh disable=SC2154 # the variables of node.sh

CNI_BIN_DIR=${CNI_BIN_DIR:-/opt/cni/bin} CNI_CONF_DIR=${CNI_CONF_DIR:-/etc/cni/net.d}
CONTAINERD_CONFIG=${CONTAINERD_CONFIG:-/etc/containerd/config.toml}
SBIN_DIR=${HEADGATE_SBIN_DIR:-/usr/local/sbin} UNIT_DIR=${HEADGATE_UNIT_DIR:-/etc/systemd/system}
OVS_RUN_DIR=${OVS_RUNDIR:-/run/openvswitch} RUN_DIR=${HEADGATE_RUN_DIR:-/run/headgate} UNDERLAY=br-ul

# program ARGUMENT...: headgate-node, from the file beside this script or from the checkout that it is in.
program() {
    if [ -f "$here/headgate-node" ]; then
        HEADGATE_NODE_STATE=$STATE python3 -I "$here/headgate-node" "$@"
    else
        (cd "$here/.." && HEADGATE_NODE_STATE=$STATE PYTHONDONTWRITEBYTECODE=1 python3 -m node "$@")
    fi
}

# Before anything is changed: what this cannot install without the network.
check_program() {
    [ -f "$here/headgate-node" ] || [ -f "$here/../node/command.py" ] ||
        fail "headgate-node must be beside this script: make it with \`headgate node bundle\`"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || fail "install Python 3.9 or newer"
    command -v ip >/dev/null 2>&1 || fail "the program ip is not installed: install the package iproute2"
}

check_nft() { command -v nft >/dev/null 2>&1 || fail "the program nft is not installed: install the package nftables"; }

# After Open vSwitch has been started, before anything else is changed.
check_move() {
    check_program
    type=$(value Bridge "$bridge" datapath_type 2>/dev/null || true)
    [ "${type:-${datapath:-system}}" != netdev ] || check_nft
    stay_with bridge "$bridge"
    stay_with uplink "$uplink"
    [ -z "$(setting underlay)" ] || fail "the underlay is $(setting underlay): run node-undo.sh before its addresses move elsewhere"
}

check_cni() {
    check_program
    check_nft
    for plugin in host-local portmap; do
        [ -x "$CNI_BIN_DIR/$plugin" ] || fail "there is no CNI plugin $CNI_BIN_DIR/$plugin: install the standard" \
            "plugins (package containernetworking-plugins), copied or linked there"
    done
    looked=$(sed -n 's/^ *bin_dir *= *"\(.*\)".*/\1/p' "$CONTAINERD_CONFIG" 2>/dev/null | head -n 1)
    [ "${looked:-$CNI_BIN_DIR}" = "$CNI_BIN_DIR" ] ||
        say "containerd looks for CNI plugins in $looked ($CONTAINERD_CONFIG), and this one goes to $CNI_BIN_DIR: if the" \
            "kubelet uses that containerd, run this again with CNI_BIN_DIR=$looked"
    command -v iptables >/dev/null 2>&1 ||
        say "the program iptables is not installed: pods with hostPort need it, unless portmap is release 1.6 or newer"
    [ -z "$underlay" ] || check_underlay
    stay_with bridge "$bridge"
    stay_with underlay "$underlay"
    [ -z "$(noted role)" ] || fail "$bridge has the uplink $(flat_uplink) of a flat network: run node-undo.sh first"
}

# setting NAME: what an earlier run kept.
setting() { [ ! -f "$STATE/node.json" ] || sed -n "s/^ \"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" "$STATE/node.json"; }

# flat_uplink: what an earlier run was given as --uplink.
flat_uplink() {
    moved=$(setting uplink)
    printf '%s\n' "${moved:-$(noted role)}"
}

# stay_with SETTING VALUE: what an earlier run made is on the one it named, and would be left there, or given to another.
stay_with() {
    [ -n "$2" ] || return 0
    old=$(setting "$1")
    [ -z "$old" ] || [ "$old" = "$2" ] || fail "the $1 is $old already: run node-undo.sh before another is named"
}

# All packets of the interface go to the bridge before the kernel gives them to anything that stands on it, and those of
# a member are its master's.
check_underlay() {
    link=$(ip -o link show dev "$underlay") || fail "there is no interface $underlay"
    case $link in
        *' link/ether '*) ;;
        *) fail "$underlay is no Ethernet interface: name the one that leads to the other nodes" ;;
    esac
    case $link in
        *' master '*) fail "$underlay is a part of $(printf '%s' "$link" | sed 's/.* master \([^ ]*\).*/\1/'): name that" ;;
    esac
    over=$(ip -o -d link show | grep -F "@$underlay: " | grep -E ' (vlan|macvlan|macvtap|ipvlan|ipvtap) ' |
        sed 's/^[0-9]*: \([^@]*\)@.*/\1/' | tr '\n' ' ')
    [ -z "$over" ] || fail "${over% } on $underlay would get no packets: put pods' network on another interface, or" \
        "name ${over% } where that is the way to the other nodes"
}

# After Open vSwitch has been started, before anything else is changed.
check_underlay_is_free() {
    ! vsctl br-exists "$underlay" || fail "$underlay is a bridge of Open vSwitch: name the interface that leads to the other nodes"
    on=$(vsctl iface-to-br "$underlay" 2>/dev/null || true)
    [ -z "$on" ] || fail "$underlay is on the bridge $on"
}

# Open vSwitch keeps the bridge; headgate-node makes the cable between it and the interface, and moves the addresses, also
# at boot. The bridge switches by itself, so that the controller is reached through it.
make_underlay() {
    [ -n "$underlay" ] || return 0
    if [ "$(vsctl iface-to-br "$CABLE" 2>/dev/null || true)" != "$UNDERLAY" ]; then
        mac=$(ip -o link show dev "$underlay" | sed 's|.*link/ether \([^ ]*\).*|\1|')
        vsctl br-exists "$UNDERLAY" || remember bridge "$UNDERLAY"
        remember port "$UNDERLAY $CABLE"
        vsctl --may-exist add-br "$UNDERLAY" -- set Bridge "$UNDERLAY" fail_mode=standalone \
            datapath_type="$(value Bridge "$bridge" datapath_type)" "other_config:hwaddr=\"$mac\""
        vsctl --no-wait add-port "$UNDERLAY" "$CABLE" # the cable is made next
    fi
}

# install_program: the program twice, compiled for the Python here, and its settings. The plugin does nothing until its
# configuration list is written, which headgate-node does last.
install_program() {
    remember program "$SBIN_DIR/headgate-node"
    remember plugin "$CNI_BIN_DIR/headgate"
    program install "$SBIN_DIR/headgate-node" "$CNI_BIN_DIR/headgate"
    program configure "bridge=$bridge" "ovsdb=$OVS_RUN_DIR/db.sock" "run_dir=$RUN_DIR" "masquerade=$masquerade" \
        "cni_bin_dir=$CNI_BIN_DIR" "cni_conf_dir=$CNI_CONF_DIR" ${underlay:+"underlay=$underlay"}
}

# move_addresses: of the uplink to the bridge. The program stays for the undo, in a folder that outlives this script's.
move_addresses() {
    remember uplink "$uplink"
    program install "$STATE/headgate-node"
    program configure "bridge=$bridge" "ovsdb=$OVS_RUN_DIR/db.sock" "run_dir=$RUN_DIR" "uplink=$uplink"
    program underlay
}

# prepare_network: all that needs no controller. The program is there before an interface is taken, so that its addresses
# do not wait for it. What the controller will write into the bridge goes with the undo.
prepare_network() {
    remember port "$bridge headgate-tun"
    remember settings "$bridge"
    install_program
    make_underlay
    [ -z "$underlay" ] || program underlay
}

install_units() {
    [ -d /run/systemd/system ] || return 0
    for name in headgate-node.service headgate-health.service headgate-health.socket; do
        unit=$here/systemd/$name
        [ -f "$unit" ] || unit=$here/$name
        remember unit "$name" "$UNIT_DIR/$name"
        sed -e "s|/usr/local/sbin/|$SBIN_DIR/|" -e "s|/var/lib/headgate-node|$STATE|" "$unit" >"$UNIT_DIR/$name"
    done
    systemctl daemon-reload
    systemctl --quiet enable headgate-node.service
    systemctl --quiet enable --now headgate-health.socket
}

# apply_network: make what the controller wrote. What it has not written yet is left to the unit, or without systemd to
# a process that ends when it is done.
apply_network() {
    install_units
    code=0
    program apply --wait "$patience" >&2 || code=$?
    case $code in
        0) end_waiting ;;
        3)
            # shellcheck disable=SC2034 # node.sh says it at the end
            outcome="waits for the controller"
            say "leaving the rest until the controller has written it: is it running, does it know this Node?"
            if [ -d /run/systemd/system ]; then
                systemctl --no-block restart headgate-node
            else
                end_waiting
                mkdir -p "$RUN_DIR"
                HEADGATE_NODE_STATE=$STATE setsid "$SBIN_DIR/headgate-node" apply --wait 86400 \
                    >"$RUN_DIR/node.log" 2>&1 </dev/null &
                echo $! >"$RUN_DIR/node.pid"
                # Whoever ends it looks for its name, which the new process has only after a moment.
                for _ in 1 2 3 4 5 6 7 8 9 10; do is_waiting "$!" || sleep 0.2; done
            fi
            ;;
        *) fail "this node's network is not set up: mend what is said above, then run this again" ;;
    esac
}

# is_waiting PID: whether this is the process that waits for the controller.
is_waiting() { tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF "$SBIN_DIR/headgate-node apply"; }

# End the process that an earlier run left waiting.
end_waiting() {
    [ -f "$RUN_DIR/node.pid" ] || return 0
    waiting=$(cat "$RUN_DIR/node.pid")
    ! is_waiting "$waiting" || kill "$waiting" 2>/dev/null || true
    rm -f "$RUN_DIR/node.pid" "$RUN_DIR/node.log"
}
