#!/usr/bin/env bash
# A network for the groups below one folder, in which each node has a namespace of its own, so that it can be cut off.
# It has to be made before the monitor, and needs root. Clients do not use it: they reach all nodes by their sockets,
# also one that is cut off, which is the worse case.
#
#   network.sh check            exit status 0 if there can be one here; says why not
#   network.sh make BASE        make it; monitor.sh and group.sh use it from now on
#   network.sh node BASE G N    make the namespace of a node, if it is missing
#   network.sh cut BASE G N     the node reaches nobody, and nobody reaches it; what is sent is lost
#   network.sh join BASE G N    it is back
#   network.sh remove BASE [G]  remove the namespaces of a group, or all and the network
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/autoctl.sh"

usage() {
    sed -n '6,11s/^# *//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

check() {
    local name=asc$$
    [ "$(id -u)" = 0 ] || die "network namespaces need root"
    { command -v ip && command -v nsenter; } >/dev/null || die "network namespaces need ip (iproute2) and nsenter"
    ip netns add $name 2>/dev/null || die "no network namespace can be made here"
    local status=0
    { ip link add $name type bridge && ip link del $name && ip link add $name type veth peer name eth0 netns $name; } 2>/dev/null || status=1
    ip link del $name 2>/dev/null || true
    ip netns del $name
    [ $status = 0 ] || die "no bridge or pair of network devices can be made here"
}

bridge() { echo "as$NETWORK_ID"; }
device() { echo "as$NETWORK_ID-$1-$2"; }

make() {
    check
    make_base
    # 198.18.0.0/15 is for tests, and routed nowhere.
    [ -e "$BASE/network" ] || {
        local hash
        hash=$(cksum <<<"$BASE" | cut -d ' ' -f 1)
        printf '%s 198.%s.%s\n' "$((hash % 10000))" $((hash % 2 + 18)) $((hash / 2 % 256)) | as_server tee "$BASE/network" >/dev/null
    }
    read_network
    make_bridge
}

make_bridge() {
    [ ! -e "/sys/class/net/$(bridge)" ] || return 0
    ip link add "$(bridge)" type bridge
    ip address add "$NETWORK.1/24" dev "$(bridge)"
    ip link set "$(bridge)" up
}

node() {
    local namespace device
    namespace=$(namespace "$1" "$2") device=$(device "$1" "$2")
    [ ! -e "/run/netns/$namespace" ] || return 0
    # Groups are started side by side, maybe after the machine was.
    { flock 9 && make_bridge; } 9>"$BASE/network.lock"
    ip netns add "$namespace"
    ip link add "$device" type veth peer name eth0 netns "$namespace"
    ip link set "$device" master "$(bridge)" up
    ip -n "$namespace" address add "$(node_address "$1" "$2")/24" dev eth0
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link set eth0 up
}

remove() {
    local namespace
    for namespace in /run/netns/"$(bridge)-${1:-}"*; do
        [ -e "$namespace" ] || continue
        namespace=$(basename "$namespace")
        # The device goes with its namespace, but later, when nobody is in it any more.
        ip link del "$namespace" 2>/dev/null || true
        ip netns del "$namespace"
    done
    [ -z "${1:-}" ] || return 0
    ip link del "$(bridge)" 2>/dev/null || true
    rm -f "$BASE/network" "$BASE/network.lock"
}

[ $# -ge 1 ] || usage
COMMAND=$1
shift
if [ "$COMMAND" = check ]; then
    check
    exit
fi
[ $# -ge 1 ] || usage
set_base "$1"
shift
[ "$COMMAND" = make ] || [ -n "$NETWORK" ] || {
    [ "$COMMAND" != remove ] || exit 0
    die "the nodes in $BASE have no network of their own: 'network.sh make' comes first"
}

case $COMMAND in
    make) make ;;
    node) node "$1" "$2" ;;
    cut) ip link set "$(device "$1" "$2")" down ;;
    join) ip link set "$(device "$1" "$2")" up ;;
    remove) remove "${1:+$1-}" ;;
    *) usage ;;
esac
