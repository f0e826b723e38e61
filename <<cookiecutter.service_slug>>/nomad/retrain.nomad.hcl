# The pipeline, run once in every period, on the cluster for batch jobs.

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
  description = "More environment for the task, such as MLSERVICE_ARTIFACTS__ROOT"
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

variable "crons" {
  description = "When it starts, UTC, five fields; `mlservice deploy` takes it from retrain_every"
  type        = list(string)
  default     = ["<< {'hour': '5 * * * *', 'three-hours': '5 */3 * * *', 'day': '5 0 * * *', 'week': '5 0 * * 1'}[cookiecutter.retrain_every] >>"]
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
  description = "Region of that cluster; empty: the one that the pipeline runs in"
  type        = string
  default     = ""
}

variable "services_namespace" {
  description = "Namespace of the worker job; empty: the one that the pipeline runs in"
  type        = string
  default     = ""
}

variable "consul_address" {
  description = "Consul (host:port) that models are published to; empty: port 8500 of the node"
  type        = string
  default     = ""
}

variable "pipeline_cpu" {
  description = "CPU in MHz; little is needed but at the end, when the model is tried"
  type        = number
  default     = 500
}

variable "pipeline_memory_mb" {
  description = "Memory in MB; the model is loaded once before it is published"
  type        = number
  default     = 1024
}

job "<< cookiecutter.service_slug >>-retrain" {
  type        = "batch"
  namespace   = var.namespace
  datacenters = var.datacenters

  periodic {
    crons            = var.crons
    time_zone        = "UTC" # others skip or repeat hours twice a year
    prohibit_overlap = true
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
          args    = ["pipeline", "run", "--publish"]
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
          args    = ["pipeline", "run", "--publish"]
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
