#!/bin/sh
# Resolves requirements/*.in to lock files with hashes and without addresses: `make lock`.
# The service's lock says what runs in production, the one for development adds the tools.
set -eu
venv=$(cd "${1:-.venv}" && pwd)
cd "$(dirname "$0")/../requirements"
compile() {
    "$venv/bin/python" ../ci/uv.py run "$venv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-annotate --override overrides.txt "$@"
}
compile platform.in service.in --output-file service.lock
compile platform.in service.in dev.in --constraint service.lock --output-file dev.lock
