#!/bin/sh
# `make demo`: renders a service with the defaults into .demo/ and runs its own demo there.
# The environment and the models of an earlier run are kept, so the next one is quick.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
demo=.demo
service=$demo/flight-delay
mkdir -p "$demo"
state=$(git ls-files -s -m -o --exclude-standard 2>/dev/null | cat - pyproject.toml | cksum)
changed=$(git diff HEAD 2>/dev/null | cksum)
if [ ! "$demo/venv/.ready" -nt tools/demo.lock ]; then
    echo "Installing cookiecutter into $demo/venv ..."
    "$python" "<<cookiecutter.service_slug>>/ci/uv.py" install "$demo/venv" tools/demo.lock
fi
if [ "$state $changed" != "$(cat "$demo/rendered" 2>/dev/null)" ] || [ ! -d "$service" ]; then
    echo "Rendering a service with the default answers into $service ..."
    rm -rf "$demo/new"
    mkdir "$demo/new"
    "$demo/venv/bin/cookiecutter" --no-input --output-dir "$demo/new" .
    for kept in .venv .mlservice; do
        if [ -d "$service/$kept" ]; then mv "$service/$kept" "$demo/new/flight-delay/$kept"; fi
    done
    rm -rf "$service"
    mv "$demo/new/flight-delay" "$service"
    rmdir "$demo/new"
    echo "$state $changed" > "$demo/rendered"
fi
exec make --no-print-directory -C "$service" demo "$@"
