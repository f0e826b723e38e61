#!/bin/sh
# Makes the protobuf modules from the .proto file; with --check, fails where they differ.
set -eu
python=$1
cd "$(dirname "$0")/.."
out=src
if [ "${2:-}" = --check ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
"$python" -m grpc_tools.protoc --proto_path=src --python_out="$out" --pyi_out="$out" \
    --grpc_python_out="$out" src/mlservice/protocol/predict.proto
if [ "$out" != src ]; then
    for file in "$out"/mlservice/protocol/*; do
        cmp "$file" "src/mlservice/protocol/$(basename "$file")" ||
            { echo "the code differs from predict.proto: run make proto"; exit 1; }
    done
fi
