#!/bin/sh
# consul-template: the engine inside Nomad that renders the live file, built from its source.
set -eu
tools=$1
version=v0.41.1
if [ -x "$tools/bin/consul-template" ]; then exit 0; fi
command -v go >/dev/null || { echo "go is missing: install Go 1.24 or newer"; exit 1; }
GOBIN=$tools/bin go install "github.com/hashicorp/consul-template@$version"
