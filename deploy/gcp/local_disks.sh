#!/bin/bash
# Make one file system of a node's local SSDs at /mnt/local; a folder of the boot disk where it has none.
set -euo pipefail
sudo mkdir -p /mnt/local
mapfile -t disks < <(find /dev/disk/by-id -name 'google-local-*' ! -name '*-part*' | sort)
if ((${#disks[@]})) && ! mountpoint -q /mnt/local; then
  device=${disks[0]}
  if ((${#disks[@]} > 1)); then
    device=/dev/md0
    sudo mdadm --create "$device" --run --level=0 --raid-devices=${#disks[@]} "${disks[@]}"
  fi
  sudo mkfs.ext4 -q -F -m 0 "$device"
  sudo mount -o discard,noatime "$device" /mnt/local
fi
sudo chown "$(id -u)" /mnt/local
mkdir -p /mnt/local/tmp
chmod 700 /mnt/local/tmp
