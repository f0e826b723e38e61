# Production: values that differ from the defaults of the variables in nomad/*.nomad.hcl.
# `mlservice deploy register --env production` gives each job those that it declares.

datacenters = ["dc1"]

gateway_count    = 3
gateway_canaries = 3
worker_count     = 3
worker_canaries  = 3

# env = { MLSERVICE_ARTIFACTS__ROOT = "s3://ml-artifacts-production/<< cookiecutter.service_slug >>" }
# vault_role = "<< cookiecutter.service_slug >>"
