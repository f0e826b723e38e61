#!/bin/sh
# gitlab-ci-local runs the service's .gitlab-ci.yml on this machine.
set -eu
tools=$1
version=4.60.1
if ! command -v rsync >/dev/null; then
    { apt-get update && apt-get install --yes rsync; } ||
        { echo "rsync is missing: install it (apt-get install rsync)"; exit 1; }
fi
if [ ! -x "$tools/node_modules/.bin/gitlab-ci-local" ]; then
    command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or newer"; exit 1; }
    # One of its parts is compiled where it cannot be fetched: by the headers beside node.
    headers=$(dirname "$(dirname "$(command -v node)")")
    if [ -d "$headers/include/node" ]; then export npm_config_nodedir="$headers"; fi
    npm install --loglevel=error --no-audit --no-fund --no-package-lock --prefix "$tools" \
        "gitlab-ci-local@$version"
fi
ln -sf ../node_modules/.bin/gitlab-ci-local "$tools/bin/gitlab-ci-local"
