#!/bin/sh
# Resolves requirements/*.in to lock files with hashes and without addresses: `make lock`.
# The service's lock says what runs in production, the one for development adds the tools.
set -eu
uv=${1:-.venv/bin/uv}
cd "$(dirname "$0")/../requirements"
compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-annotate --override overrides.txt "$@"
}
compile platform.in service.in --output-file service.lock
compile platform.in service.in dev.in --constraint service.lock --output-file dev.lock
