# The pipeline, on the cluster for batch jobs. `mlservice deploy` registers two jobs from this file:
# - pipeline runs on request: mlservice deploy dispatch pipeline --meta period=2013-10-07
# - retrain runs once in every period, by `crons`.
# The pipeline computes nothing itself. It dispatches the jobs, and publishes the model at its end. It
# does not repeat what is complete, so a second run of the same period is harmless.

variable "datacenters" {
  description = "Datacenters of the cluster that the job may run in"
  type        = list(string)
  default     = ["dc1"]
}

variable "namespace" {
  description = "Nomad namespace"
  type        = string
  default     = "default"
}

variable "driver" {
  description = "Task driver: docker, or raw_exec on `nomad agent -dev` without Docker"
  type        = string
  default     = "docker"

  validation {
    condition     = var.driver == "docker" || var.driver == "raw_exec"
    error_message = "The driver must be docker or raw_exec."
  }
}

variable "image" {
  description = "Container image with its tag; never `latest`, which would change on a restart"
  type        = string
  default     = "<< cookiecutter._org_registry >>/<< cookiecutter.service_slug >>:0.1.0"
}

variable "command" {
  description = "The mlservice command: inside the image, or its full path for raw_exec"
  type        = string
  default     = "mlservice"
}

variable "config" {
  description = "Path of service.toml inside the image, or on the node for raw_exec"
  type        = string
  default     = "/app/service.toml"
}

variable "env" {
  description = "More environment variables of the task, such as MLSERVICE_ARTIFACTS__ROOT"
  type        = map(string)
  default     = {}
}

variable "vault_role" {
  description = "Vault role of the task; empty: no Vault"
  type        = string
  default     = ""
}

variable "vault_path" {
  description = "Vault path (KV version 2, with /data/) whose keys become environment"
  type        = string
  default     = "secret/data/<< cookiecutter.service_slug >>"
}

variable "nomad_address" {
  description = "API of the cluster for batch jobs; empty: port 4646 of the node"
  type        = string
  default     = ""
}

variable "services_address" {
  description = "API of the cluster for services, where the worker job is; empty: the same"
  type        = string
  default     = ""
}

variable "services_region" {
  description = "Region of that cluster; empty: the region of the pipeline"
  type        = string
  default     = ""
}

variable "services_namespace" {
  description = "Namespace of the worker job; empty: the namespace of the pipeline"
  type        = string
  default     = ""
}

variable "consul_address" {
  description = "Consul (host:port) that models are published to; empty: port 8500 of the node"
  type        = string
  default     = ""
}

variable "crons" {
  description = "When retrain starts (UTC, five fields each); empty: this is the job pipeline"
  type        = list(string)
  default     = [] # `mlservice deploy` takes those of retrain from [pipeline] retrain_every
}

variable "pipeline_cpu" {
  description = "CPU in MHz; only the trial of the model at the end needs much"
  type        = number
  default     = 500
}

variable "pipeline_memory_mb" {
  description = "Memory in MB; the model is loaded once before it is published"
  type        = number
  default     = 1024
}

locals {
  retrain = length(var.crons) > 0
  name    = local.retrain ? "retrain" : "pipeline"
  # An empty period is the one that has just begun. Nomad replaces the variable when the task starts.
  period = local.retrain ? [] : ["--period", "$${NOMAD_META_period}"]
  args   = concat(["pipeline", "run", "--publish"], local.period)
}

job "<< cookiecutter.service_slug >>-pipeline" {
  id          = "<< cookiecutter.service_slug >>-${local.name}"
  name        = "<< cookiecutter.service_slug >>-${local.name}"
  type        = "batch"
  namespace   = var.namespace
  datacenters = var.datacenters

  dynamic "parameterized" {
    for_each = local.retrain ? [] : [1]
    content {
      payload       = "forbidden"
      meta_optional = ["period"]
    }
  }

  dynamic "periodic" {
    for_each = local.retrain ? [1] : []
    content {
      crons            = var.crons
      time_zone        = "UTC" # other zones skip or repeat an hour twice a year
      prohibit_overlap = true
    }
  }

  group "pipeline" {
    restart {
      attempts = 2
      interval = "24h"
      delay    = "1m"
      mode     = "fail"
    }

    reschedule {
      attempts  = 3
      interval  = "24h"
      delay     = "1m"
      unlimited = false
    }

    task "pipeline" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image   = var.image
          command = var.command
          args    = local.args
          logging {
            type = "json-file"
            config {
              max-size = "10m"
              max-file = "3"
            }
          }
        }
      }

      dynamic "config" {
        for_each = var.driver == "docker" ? [] : [1]
        content {
          command = var.command
          args    = local.args
        }
      }

      # NOMAD_TOKEN and CONSUL_HTTP_TOKEN come from Vault, or from `env`.
      env = merge(var.env, {
        MLSERVICE_CONFIG                     = var.config
        MLSERVICE_PIPELINE__EXECUTOR         = "nomad"
        MLSERVICE_SERVICE_CLUSTER__ADDRESS   = var.services_address
        MLSERVICE_SERVICE_CLUSTER__REGION    = var.services_region
        MLSERVICE_SERVICE_CLUSTER__NAMESPACE = var.services_namespace
        NOMAD_ADDR                           = var.nomad_address != "" ? var.nomad_address : "http://${attr.unique.network.ip-address}:4646"
        CONSUL_HTTP_ADDR                     = var.consul_address != "" ? var.consul_address : "${attr.unique.network.ip-address}:8500"
      })

      dynamic "vault" {
        for_each = var.vault_role == "" ? [] : [var.vault_role]
        content {
          role        = vault.value
          change_mode = "noop"
        }
      }

      dynamic "template" {
        for_each = var.vault_role == "" ? [] : [var.vault_path]
        content {
          destination = "secrets/service.env"
          env         = true
          change_mode = "noop"
          data        = "{{ with secret \"${template.value}\" }}{{ range $k, $v := .Data.data }}{{ $k }}={{ $v | toJSON }}\n{{ end }}{{ end }}"
        }
      }

      resources {
        cpu    = var.pipeline_cpu
        memory = var.pipeline_memory_mb
      }
    }
  }
}
