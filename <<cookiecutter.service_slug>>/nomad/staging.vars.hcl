# Staging: values that differ from the defaults of the variables in nomad/*.nomad.hcl.
# `mlservice deploy register --env staging` gives each job those that it declares.

datacenters = ["dc1"]

gateway_count    = 1
gateway_canaries = 1
worker_count     = 1
worker_canaries  = 1

# env = { MLSERVICE_ARTIFACTS__ROOT = "s3://ml-artifacts-staging/<< cookiecutter.service_slug >>" }
# vault_role = "<< cookiecutter.service_slug >>"
