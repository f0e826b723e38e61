#!/bin/sh
# Fetches what `make test-servers` needs beside Python (all, or those that are named), and prints
# the folder of their commands.
set -eu
cd "$(dirname "$0")/.."
tools=$(pwd)/.cache/servers
mkdir -p "$tools/bin"
for name in ${@:-$(cd tools/servers && ls -- *.sh)}; do
    sh "tools/servers/${name%.sh}.sh" "$tools" >&2 ||
        { echo "tools/servers/${name%.sh}.sh failed" >&2; exit 1; }
done
echo "$tools/bin"
