#!/bin/bash
# Run the unit under a systemd of its own and hold it to what deploy/README.md says. As root:
#   mmdebstrap --include=systemd-sysv,dbus,python3-venv bookworm ROOT
#   chroot ROOT python3.11 -m venv /opt/slipway   # and pip install 'slipway-ml[host]' in it
#   deploy/try.sh ROOT BUNDLE TRUSTED_KEYS MODEL REQUEST.json
# Needs systemd-container, iproute2, curl, openssl and slipway here. The root's /etc/slipway and state are replaced.
set -euo pipefail
root=$(realpath -e "${1:?ROOT}")
[ "$root" != / ] || { echo "ROOT: a folder of its own, not /" >&2; exit 2; }
bundle=$2 trusted=$3 model=$4 request=$5
here=$(dirname "$(realpath "$0")") unit=slipway-host etc=$root/etc/slipway
url=https://127.0.0.1:8080/v2

say() { printf '%-40s %s\n' "$1" "$2"; }
fail() { say "$1" FAILED; inside journalctl -u $unit --no-pager | tail -20; exit 1; }
inside() { nsenter --target "$(pgrep -P "$nspawn")" --all -- "$@"; }
net() { nsenter --target "$(pgrep -P "$nspawn")" --net -- "$@"; }
pid() { inside systemctl show -P MainPID $unit; }
await() { for _ in $(seq 600); do "$@" && return; sleep 0.1; done; return 1; }
ready() { net curl -skf -o /dev/null $url/health/ready 2> /dev/null; }
ask() { net curl -sk -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $1" \
    -H 'Content-Type: application/json' --data "@$request" "$url/models/$model/infer"; }

rm -rf "$etc" "$root/var/lib/slipway" "$root/srv/bundle"
mkdir -p "$etc" && cp -r "$trusted" "$etc/trusted_keys" && cp -r "$bundle" "$root/srv/bundle"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
    -subj /CN=localhost -keyout "$etc/tls.key" -out "$etc/tls.crt" 2>/dev/null
key=$(slipway keys add --file "$etc/api-keys.json" --name first 2>/dev/null)
sed "s# --fleet example# --bundle /srv/bundle#; s# --store [^ ]*##" \
    "$here/systemd/host.env" > "$etc/host.env"
install -m 0644 "$here/systemd/$unit.service" "$root/etc/systemd/system/"
chroot "$root" sh -c "id slipway >/dev/null 2>&1 || useradd --system --home-dir /nonexistent \
    --shell /usr/sbin/nologin slipway; cd /etc/slipway; chown root:slipway tls.key api-keys.json;
    chmod 0640 tls.key api-keys.json; systemctl enable --quiet $unit"

# A machine with both kinds of cgroups: the container sees the newer kind alone.
hybrid='[ ! -d /sys/fs/cgroup/unified ] || { mount --bind /sys/fs/cgroup/unified /mnt
    umount -l /sys/fs/cgroup; mount --bind /mnt /sys/fs/cgroup; umount /mnt; }'
# BPF, so that IPAddressDeny= counts.
unshare --mount sh -c "$hybrid; exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet \
    --register=no --keep-unit --capability=all --system-call-filter=bpf --private-network \
    --console=pipe --directory '$root' --boot" > "$root/boot.log" 2>&1 < /dev/null &
nspawn=$!
trap 'inside systemctl poweroff 2> /dev/null; wait $nspawn || true' EXIT

held() { if eval "$2"; then say "$1" ok; else fail "$1"; fi; }
facts() { inside sh -c "cat /proc/$(pid)/status"; }
restarted() { [ "$(pid)" != "$stuck" ] && ready; }

held "ready" 'await ready'
held "an inference answers" '[ "$(ask "$key")" = 200 ]'
held "no capability, system calls filtered" \
    'facts | grep -Pq "^CapBnd:\t0+$" && facts | grep -Pq "^Seccomp:\t2$"'
held "its files are its own" '[ "$(inside stat -c %U:%a /var/lib/slipway)" = slipway:700 ]'
net ip address add 192.0.2.1/32 dev lo  # as good as any public address
held "only private addresses are answered" '! net curl -skm 2 https://192.0.2.1:8080/v2/health/live'
second=$(slipway keys add --file "$etc/api-keys.json" --name second 2>/dev/null)
inside systemctl reload $unit
held "a reload takes up a key" 'await eval "[ \$(ask \"$second\") = 200 ]" &&
    [[ $(inside journalctl -b -u $unit --no-pager) == *\"reloading\"* ]]'
stuck=$(pid)
inside kill -STOP "$stuck"
held "the watchdog replaces a stuck process" 'await restarted'
inside systemctl stop $unit
held "a stop is a success" '[ "$(inside systemctl show -P Result $unit)" = success ]'
