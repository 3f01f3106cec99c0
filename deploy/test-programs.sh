#!/bin/sh
# Installs the real counterparts the tests talk to. Only root can; without them those tests are skipped, in CI they fail.
set -eu
missing=""
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null 2>&1 || missing=" postgresql"
for program in mosquitto node npm; do
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$program" >/dev/null 2>&1 || case $program in
        node) missing="$missing nodejs" ;;
        *) missing="$missing $program" ;;
    esac
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed:$missing; the tests that need them are skipped (install with: sudo apt-get install$missing)" >&2
    exit 0
fi
# shellcheck disable=SC2086
{ apt-get install -y --no-install-recommends $missing || { apt-get update && apt-get install -y --no-install-recommends $missing; }; } >/dev/null
