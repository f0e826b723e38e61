#!/bin/sh
# Fetches what `make test-servers` needs beside Python, and prints the folder of its commands.
set -eu
cd "$(dirname "$0")/.."
tools=$(pwd)/.cache/servers
version=4.60.1
if ! command -v rsync >/dev/null; then
    { apt-get update && apt-get install --yes rsync; } >&2 ||
        { echo "rsync is missing: install it (apt-get install rsync)" >&2; exit 1; }
fi
if [ ! -x "$tools/node_modules/.bin/gitlab-ci-local" ]; then
    command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or newer" >&2; exit 1; }
    # One of its parts is compiled where it cannot be fetched: by the headers beside node.
    headers=$(dirname "$(dirname "$(command -v node)")")
    if [ -d "$headers/include/node" ]; then export npm_config_nodedir="$headers"; fi
    mkdir -p "$tools"
    npm install --loglevel=error --no-audit --no-fund --no-package-lock --prefix "$tools" \
        "gitlab-ci-local@$version" >&2
fi
echo "$tools/node_modules/.bin"
