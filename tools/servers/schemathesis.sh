#!/bin/sh
# schemathesis, in an environment of its own: it wants another jsonschema-rs than services have.
set -eu
tools=$1
version=4.32.5
home=$tools/schemathesis-$version
if [ ! -x "$home/bin/schemathesis" ]; then
    rm -rf "$home"
    python3 -m venv "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi
ln -sf "$home/bin/schemathesis" "$tools/bin/schemathesis"
