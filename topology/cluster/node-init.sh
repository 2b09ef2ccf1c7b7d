#!/bin/sh
# Process 1 of a node: makes the node's file system, and waits. Run in new namespaces (mount, UTS, IPC, PID, cgroup) of the
# node's network namespace and cgroup.
#
#   node-init.sh NAME FOLDER [PLACE...]
#     FOLDER     the node's files: etc/, containerd/, kubelet/, and upper/, which has what the node writes elsewhere
#     PLACE      a folder of the machine that is on another file system than /, and needed on the node
#
# The node sees the machine's files, and what it writes stays its own (overlayfs). So packages of the machine are those of
# the node, and a reboot keeps what a machine's disk keeps.
set -eu
name=$1 folder=$2
shift 2
root=$folder/root

hostname "$name"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$root"
for place; do
    mkdir -p "$root$place"
    mount --rbind "$place" "$root$place"
done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"

# --- control groups: only the node's own, as its root -------------------------------------------------------------------

if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mkdir -p "$root/sys/fs/cgroup/node" # a group with limits for its children has no processes of its own
    echo $$ >"$root/sys/fs/cgroup/node/cgroup.procs"
    tr ' ' '\n' <"$root/sys/fs/cgroup/cgroup.controllers" | while read -r controller; do
        echo "+$controller" >"$root/sys/fs/cgroup/cgroup.subtree_control"
    done
else
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    while IFS=: read -r _ controllers _; do
        case $controllers in
            '') continue ;;
            name=*) place=${controllers#name=} controllers=none,$controllers ;;
            *) place=$controllers ;;
        esac
        mkdir "$root/sys/fs/cgroup/$place"
        mount -t cgroup -o "$controllers" cgroup "$root/sys/fs/cgroup/$place"
    done </proc/self/cgroup
fi

# --- the node's disk ----------------------------------------------------------------------------------------------------

if [ ! -e "$folder/made" ]; then
    # What the machine's own containerd, Open vSwitch or kubelet keeps is not the node's.
    rm -rf "$root/etc/cni" "$root/etc/kubernetes" "$root/etc/openvswitch" "$root/var/lib/cni" "$root/var/lib/headgate-node" \
        "$root/var/log/pods" "$root/var/log/containers" "$root/usr/local/sbin/headgate-node"
    mkdir -p "$root/opt/cni/bin" "$root/etc/kubernetes" "$root/etc/openvswitch" "$root/var/lib/containerd" "$root/var/lib/kubelet"
    [ -x "$root/opt/cni/bin/host-local" ] || cp /usr/lib/cni/* "$root/opt/cni/bin/"
    touch "$folder/made"
fi
mount --bind "$folder/etc" "$root/etc/kubernetes"
mount --bind "$folder/containerd" "$root/var/lib/containerd" # overlayfs cannot lie on overlayfs
mount --bind "$folder/kubelet" "$root/var/lib/kubelet"
mkdir -p "$root/run/openvswitch" "$root/run/lock"
echo 'nameserver 10.96.0.10' >"$root/run/resolv.conf"

# show KEY VALUE: the kubelet wants settings of the whole machine. It is shown what it wants; the machine keeps its own.
show() {
    [ "$(cat "/proc/sys/$1")" != "$2" ] || return 0
    shown=$root/run/sysctl-$(echo "$1" | tr / -)
    echo "$2" >"$shown"
    mount --bind "$shown" "$root/proc/sys/$1"
}
show vm/overcommit_memory 1
show vm/panic_on_oom 0
show kernel/panic 10
show kernel/panic_on_oops 1
show kernel/keys/root_maxkeys 1000000
show kernel/keys/root_maxbytes 25000000

mkdir -p "$root/.machine"
cd "$root"
pivot_root . .machine
cd /
umount -l /.machine
mount --make-rshared /
touch /run/node-is-made
trap 'exit 0' TERM
while :; do
    sleep 3600 &
    wait $! || true # and reap what the node's processes leave behind
done
