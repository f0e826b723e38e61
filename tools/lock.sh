#!/bin/sh
# Resolves the locks that rendered services start with, one pair for each framework, and the
# template's own two: `make lock`. One resolution for all keeps the frameworks' versions alike.
set -eu
uv=${1:-.venv/bin/uv}
uv=$(cd "$(dirname "$uv")" && pwd)/$(basename "$uv")
cd "$(dirname "$0")/.."
service='<<cookiecutter.service_slug>>'
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for framework in lightgbm catboost sklearn; do
    condition="<% if cookiecutter.framework == '$framework' %>"
    mkdir -p "$scratch/$framework/requirements" "$scratch/$framework/ci"
    cp "$service"/ci/lock.sh "$scratch/$framework/ci/"
    cp "$service"/requirements/platform.in "$service"/requirements/dev.in "$scratch/$framework/requirements/"
    for name in service.in overrides.txt; do
        cp "$service/requirements/$condition$name<% endif %>" "$scratch/$framework/requirements/$name"
    done
    "$scratch/$framework/ci/lock.sh" "$uv"
    for name in service.lock dev.lock; do
        cp "$scratch/$framework/requirements/$name" "$service/requirements/$condition$name<% endif %>"
    done
done
"$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
    --no-annotate --override "$scratch/lightgbm/requirements/overrides.txt" requirements.in \
    --constraint "$scratch/lightgbm/requirements/dev.lock" --output-file requirements.lock
# `make demo` needs cookiecutter alone, and should not wait for the rest.
echo cookiecutter | "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --constraint requirements.lock - --output-file tools/demo.lock
