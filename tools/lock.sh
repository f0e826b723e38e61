#!/bin/sh
# Resolves the locks that rendered services start with, one pair for each framework, and the
# template's own two: `make lock`. One resolution for all keeps the frameworks' versions alike.
set -eu
venv=$(cd "${1:-.venv}" && pwd)
cd "$(dirname "$0")/.."
service='<<cookiecutter.service_slug>>'
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
compile() {
    "$venv/bin/python" "$service/ci/uv.py" run "$venv" pip compile --quiet --universal \
        --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"
}
for framework in lightgbm catboost sklearn; do
    condition="<% if cookiecutter.framework == '$framework' %>"
    mkdir -p "$scratch/$framework/requirements" "$scratch/$framework/ci"
    cp "$service"/ci/lock.sh "$service"/ci/uv.py "$scratch/$framework/ci/"
    cp "$service"/requirements/platform.in "$service"/requirements/dev.in "$scratch/$framework/requirements/"
    for name in service.in overrides.txt; do
        cp "$service/requirements/$condition$name<% endif %>" "$scratch/$framework/requirements/$name"
    done
    "$scratch/$framework/ci/lock.sh" "$venv"
    for name in service.lock dev.lock; do
        cp "$scratch/$framework/requirements/$name" "$service/requirements/$condition$name<% endif %>"
    done
done
compile --override "$scratch/lightgbm/requirements/overrides.txt" requirements.in \
    --constraint "$scratch/lightgbm/requirements/dev.lock" --output-file requirements.lock
# `make demo` needs cookiecutter and uv alone, and should not wait for the rest.
printf 'cookiecutter\nuv\n' | compile --constraint requirements.lock - --output-file tools/demo.lock
