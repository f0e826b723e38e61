#!/bin/sh
# schemathesis, in an environment of its own: it wants another jsonschema-rs than services have.
set -eu
tools=$1
version=4.32.5
home=$tools/schemathesis-$version
uv() { .venv/bin/python "<<cookiecutter.service_slug>>/ci/uv.py" run .venv "$@"; }
if [ ! -x "$home/bin/schemathesis" ]; then
    [ -x .venv/bin/uv ] || { echo "uv is missing: run make setup"; exit 1; }
    uv venv --quiet --clear --python .venv/bin/python "$home"
    uv pip install --quiet --python "$home/bin/python" "schemathesis==$version"
fi
ln -sf "$home/bin/schemathesis" "$tools/bin/schemathesis"
