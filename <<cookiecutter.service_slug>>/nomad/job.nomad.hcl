# One job of the pipeline in one size of memory, to be dispatched, on the cluster for batch jobs.
# `mlservice deploy register` registers this file once for each job that is declared with @job, and
# for each of its memory sizes. Memory is claimed only while a dispatched child runs.

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

variable "job" {
  description = "Name of the job, as declared by @job"
  type        = string
  default     = "train"
}

variable "memory_mb" {
  description = "Memory in MB, reserved and at most; the job's next size has more"
  type        = number
  default     = 1024
}

variable "job_cpu" {
  description = "CPU in MHz"
  type        = number
  default     = 1000
}

job "<< cookiecutter.service_slug >>-job" {
  id          = "<< cookiecutter.service_slug >>-job-${var.job}-${var.memory_mb}"
  name        = "<< cookiecutter.service_slug >>-job-${var.job}-${var.memory_mb}"
  type        = "batch"
  namespace   = var.namespace
  datacenters = var.datacenters

  # The payload is the call (inputs, parameters, output), or its path in the artifact store.
  parameterized {
    payload       = "required"
    meta_required = ["output"]
    meta_optional = ["attempt"]
  }

  group "job" {
    # A failed child is final: the pipeline decides whether more memory or another try helps. If a
    # node is lost, Nomad places its allocations again.
    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "job" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image   = var.image
          command = var.command
          args    = ["job", var.job, "--payload", "${NOMAD_TASK_DIR}/call.json"]
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
          args    = ["job", var.job, "--payload", "${NOMAD_TASK_DIR}/call.json"]
        }
      }

      env = merge(var.env, {
        MLSERVICE_CONFIG = var.config
      })

      dispatch_payload {
        file = "call.json"
      }

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
        cpu    = var.job_cpu
        memory = var.memory_mb
      }
    }
  }
}
