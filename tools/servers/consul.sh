#!/bin/sh
# Consul 1.8.7, the one that Debian has: it is in the bullseye suite alone, so an apt of our own
# reads that suite, from the servers that this machine's apt reads. The system's is not touched.
set -eu
tools=$1
if [ -x "$tools/bin/consul" ]; then exit 0; fi
command -v apt-get >/dev/null || { echo "apt-get is missing: Consul is taken from Debian"; exit 1; }
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
apt=$tools/apt
rm -rf "$apt"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/sources"
for source in /etc/apt/sources.list.d/*.sources; do
    if [ -e "$source" ]; then
        awk -v RS= -v suite="$codename" '$0 ~ "Suites:[^\n]* " suite "( |\n|$)" {
            sub(/Suites:[^\n]*/, "Suites: bullseye"); print $0 "\n" }' "$source"
    fi
done > "$apt/sources/bullseye.sources"
if [ -e /etc/apt/sources.list ]; then
    sed -nE "s/^(deb .*) $codename /\1 bullseye /p" /etc/apt/sources.list
fi > "$apt/sources/bullseye.list"
options="-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$apt/sources
    -o Dir::State::lists=$apt/lists -o Dir::Cache=$apt/cache"
cd "$apt"
# shellcheck disable=SC2086  # several words on purpose
apt-get $options update
# shellcheck disable=SC2086
apt-get $options download consul
dpkg -x consul_*.deb "$apt/consul"
mv "$apt/consul/usr/bin/consul" "$tools/bin/consul"
rm -rf "$apt"
