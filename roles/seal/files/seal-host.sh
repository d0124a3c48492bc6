#!/bin/sh
# Removes what belongs to this one host, so that copies of its disk make their own.
# Usage: seal-host.sh --services UNIT... --remove PATH...
set -eu

services=
removals=
kind=
for argument in "$@"; do
    case $argument in
        --services | --remove) kind=$argument ;;
        *)
            case $kind in
                --services) services="$services $argument" ;;
                --remove) removals="$removals $argument" ;;
                *)
                    echo "unexpected argument: $argument" >&2
                    exit 2
                    ;;
            esac
            ;;
    esac
done

if [ ! -s /etc/machine-id ]; then
    echo "sealed already"
    exit 0
fi

# What runs would write again what is removed below.
for service in $services; do
    if systemctl is-active --quiet "$service"; then
        systemctl stop "$service"
    fi
done

# Each path on its own; none of those that people give has spaces in it.
# shellcheck disable=SC2086
rm -rf $removals

# A copy makes its own host keys, machine id and cloud-init state at its first boot (machine-id(5), cloud-init's "clean").
rm -f /etc/ssh/ssh_host_*
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
if command -v cloud-init >/dev/null; then
    cloud-init clean --logs
fi

# What only takes room, or tells of the builder.
apt-get clean
rm -rf /var/lib/apt/lists/* /var/lib/apt/periodic/* /root/.ansible /root/.cache /home/*/.ansible /home/*/.cache /tmp/* /var/tmp/*
rm -f /root/.bash_history /home/*/.bash_history
# An empty folder that looks fresh would keep Ansible from fetching the lists.
touch -d @0 /var/lib/apt/lists
journalctl --rotate --quiet
rm -rf /var/log/journal/* /run/log/journal/*
find /var/log -type f -exec truncate --size 0 {} +
find /var/log -type f \( -name '*.gz' -o -name '*.[0-9]' \) -delete

# Last of all: an empty machine id is the mark of a sealed host.
: >/etc/machine-id
sync
