#!/bin/sh
# Programs of the system that some tests drive; without them those tests are skipped and say so.
set -eu
wanted="chromium pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "test-tools: no apt-get here; install by hand what corresponds to: $wanted" >&2
    exit 0
fi
missing=
for package in $wanted; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
run=
[ "$(id -u)" = 0 ] || run=sudo
echo "installing$missing"
$run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq $missing >/dev/null || {
    echo "test-tools: apt-get failed; the tests that need$missing will be skipped" >&2
    exit 0
}
