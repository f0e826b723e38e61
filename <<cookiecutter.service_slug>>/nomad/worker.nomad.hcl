# The worker: holds the model and only predicts, on the cluster for services.
#
# How a new model reaches it (service.toml, [models] reload):
#   watch    Nomad renders the live file again, and the worker follows it
#   signal   Nomad renders the live file again, and sends SIGHUP
#   rolling  the publisher registers this job with the new model in its meta, and the update block
#            replaces one instance after the other, with canaries and auto_revert
#
# By hand:
#   nomad job plan -hcl2-strict=false -var-file=nomad/staging.vars.hcl nomad/worker.nomad.hcl

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

variable "version" {
  description = "Version of the service; becomes a tag in Consul"
  type        = string
  default     = "0.1.0"
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

variable "reload" {
  description = "How a new model reaches the worker: watch, signal or rolling"
  type        = string
  default     = "<< cookiecutter.model_reload >>"

  validation {
    condition     = var.reload == "watch" || var.reload == "signal" || var.reload == "rolling"
    error_message = "The way must be watch, signal or rolling."
  }
}

variable "model" {
  description = "For rolling: the published model as JSON (the value of the key in Consul)"
  type        = string
  default     = "null"
}

variable "stagger_ms" {
  description = "Longest random delay in milliseconds before an instance swaps its model"
  type        = number
  default     = 5000
}

variable "serves" {
  description = "Version under which the gateway's routing knows these workers; each has a model"
  type        = string
  default     = "stable"
}

variable "worker_count" {
  description = "Number of instances"
  type        = number
  default     = 2
}

variable "worker_canaries" {
  description = "New instances beside the old ones before a version is promoted"
  type        = number
  default     = 1
}

variable "auto_promote" {
  description = "Promote as soon as the canaries are healthy, without an operator"
  type        = bool
  default     = false
}

variable "worker_cpu" {
  description = "CPU in MHz"
  type        = number
  default     = 1000
}

variable "worker_memory_mb" {
  description = "Memory in MB that is reserved; during a swap the worker holds two models"
  type        = number
  default     = 1024
}

variable "worker_memory_max_mb" {
  description = "Memory in MB that the task may use if the cluster has some left"
  type        = number
  default     = 2048
}

variable "shutdown_delay" {
  description = "Time between leaving Consul and SIGTERM, in which callers stop using the instance; at least 5s"
  type        = string
  default     = "10s"
}

job "<< cookiecutter.service_slug >>-worker" {
  id          = "<< cookiecutter.service_slug >>-worker${var.serves == "stable" ? "" : "-${var.serves}"}"
  name        = "<< cookiecutter.service_slug >>-worker${var.serves == "stable" ? "" : "-${var.serves}"}"
  type        = "service"
  namespace   = var.namespace
  datacenters = var.datacenters

  # A change of the meta is a deployment with canaries, so only rolling has the model here.
  meta = {
    model = var.reload == "rolling" ? var.model : "live"
  }

  group "worker" {
    count = var.worker_count

    network {
      port "grpc" {}
      port "metrics" {}
    }

    service {
      name        = "<< cookiecutter.service_slug >>-worker"
      port        = "grpc"
      tags        = ["v${var.version}"]
      canary_tags = ["canary", "v${var.version}"]

      meta {
        version = var.serves
      }

      canary_meta {
        version = var.serves == "stable" ? "canary" : "${var.serves}-canary"
      }

      # Whether the process responds. After three failures in a row Nomad restarts the instance.
      check {
        name         = "alive"
        type         = "grpc"
        grpc_service = "live"
        interval     = "5s"
        timeout      = "2s"

        check_restart {
          limit = 3
          # It begins with the allocation, so pulling the image takes from it.
          grace = "120s"
        }
      }

      # Whether it can predict. A worker that waits for its first model is not restarted.
      check {
        name     = "ready"
        type     = "grpc"
        interval = "5s"
        timeout  = "2s"
      }
    }

    service {
      name = "<< cookiecutter.service_slug >>-worker-metrics"
      port = "metrics"
      tags = ["prometheus"]
    }

    update {
      canary            = var.worker_canaries
      max_parallel      = 1
      auto_promote      = var.worker_canaries > 0 && (var.auto_promote || var.reload == "rolling")
      auto_revert       = true
      health_check      = "checks"
      min_healthy_time  = "10s"
      healthy_deadline  = "5m"
      progress_deadline = "10m"
    }

    restart {
      attempts = 3
      interval = "10m"
      delay    = "5s"
      mode     = "fail"
    }

    shutdown_delay = var.shutdown_delay

    task "worker" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "30s" # see src/mlservice/shutdown.py

      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image   = var.image
          command = var.command
          args    = ["serve", "worker"]
          ports   = ["grpc", "metrics"]
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
          args    = ["serve", "worker"]
        }
      }

      env = merge(var.env, {
        MLSERVICE_CONFIG               = var.config
        MLSERVICE_WORKER__HOST         = "0.0.0.0"
        MLSERVICE_WORKER__PORT         = "${NOMAD_PORT_grpc}"
        MLSERVICE_WORKER__METRICS_PORT = "${NOMAD_PORT_metrics}"
        MLSERVICE_LIVE__FILE           = "${NOMAD_TASK_DIR}/live.json"
        MLSERVICE_LIVE__WATCH          = var.reload == "watch" ? "true" : "false"
        MLSERVICE_LIVE__STAGGER_MS     = var.stagger_ms
      })

      # The live file names the published model. keyOrDefault never blocks, so a worker starts
      # before there is a first model, and waits for it without being ready.
      dynamic "template" {
        for_each = var.reload == "rolling" ? [] : [var.reload]
        content {
          destination   = "local/live.json"
          change_mode   = template.value == "signal" ? "signal" : "noop"
          change_signal = template.value == "signal" ? "SIGHUP" : ""
          splay         = "5s"
          data          = "{\"format\": 1, \"model\": {{ keyOrDefault \"mlservice/<< cookiecutter.service_slug >>/${var.serves == "stable" ? "" : "versions/${var.serves}/"}model\" \"null\" }}}\n"

          wait {
            min = "1s"
            max = "5s"
          }
        }
      }

      # The same file, written once from the job's meta.
      dynamic "template" {
        for_each = var.reload == "rolling" ? [1] : []
        content {
          destination = "local/live.json"
          change_mode = "noop"
          data        = "{\"format\": 1, \"model\": {{ env \"NOMAD_META_model\" }}}\n"
        }
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
          change_mode = "restart"
          splay       = "60s"
          data        = "{{ with secret \"${template.value}\" }}{{ range $k, $v := .Data.data }}{{ $k }}={{ $v | toJSON }}\n{{ end }}{{ end }}"
        }
      }

      resources {
        cpu        = var.worker_cpu
        memory     = var.worker_memory_mb
        memory_max = var.worker_memory_max_mb
      }
    }
  }
}
