# The gateway: the HTTP side of << cookiecutter.service_slug >>, on the cluster for services.
#
# `mlservice deploy register` sets the variables, from nomad/ENVIRONMENT.vars.hcl and service.toml. By hand:
#   nomad job plan -hcl2-strict=false -var-file=nomad/staging.vars.hcl nomad/gateway.nomad.hcl

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

variable "upstreams" {
  description = "Consul service of each upstream by its name in upstreams.py"
  type        = map(string)
  default     = {}
}

variable "gateway_count" {
  description = "Number of instances"
  type        = number
  default     = 2
}

variable "gateway_canaries" {
  description = "New instances beside the old ones before a version is promoted"
  type        = number
  default     = 1
}

variable "auto_promote" {
  description = "Promote as soon as the canaries are healthy, without an operator"
  type        = bool
  default     = false
}

variable "gateway_port" {
  description = "Fixed port on the node; 0: Nomad chooses one"
  type        = number
  default     = 0
}

variable "gateway_cpu" {
  description = "CPU in MHz"
  type        = number
  default     = 1000
}

variable "gateway_memory_mb" {
  description = "Memory in MB that is reserved"
  type        = number
  default     = 512
}

variable "gateway_memory_max_mb" {
  description = "Memory in MB that the task may use if the cluster has some left"
  type        = number
  default     = 1024
}

variable "shutdown_delay" {
  description = "Time between leaving Consul and SIGTERM, in which callers stop using the instance; at least 5s"
  type        = string
  default     = "10s"
}

job "<< cookiecutter.service_slug >>-gateway" {
  type        = "service"
  namespace   = var.namespace
  datacenters = var.datacenters

  group "gateway" {
    count = var.gateway_count

    network {
      port "http" {
        static = var.gateway_port
      }
      port "metrics" {}
    }

    service {
      name        = "<< cookiecutter.service_slug >>-gateway"
      port        = "http"
      tags        = ["v${var.version}"]
      canary_tags = ["canary", "v${var.version}"]

      # After three failures in a row Nomad restarts the instance.
      check {
        name     = "alive"
        type     = "http"
        path     = "/live"
        interval = "5s"
        timeout  = "2s"

        check_restart {
          limit = 3
          # It begins with the allocation, so pulling the image takes from it.
          grace = "120s"
        }
      }

      # Not ready is no reason for a restart: it only means that no worker can predict.
      check {
        name     = "ready"
        type     = "http"
        path     = "/ready"
        interval = "5s"
        timeout  = "2s"

        # A deployment of the gateway must not fail because no worker is there.
        on_update = "ignore"
      }
    }

    service {
      name = "<< cookiecutter.service_slug >>-gateway-metrics"
      port = "metrics"
      tags = ["prometheus"]
    }

    update {
      canary            = var.gateway_canaries
      max_parallel      = 1
      auto_promote      = var.auto_promote
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

    task "gateway" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "30s" # see src/mlservice/shutdown.py

      dynamic "config" {
        for_each = var.driver == "docker" ? [1] : []
        content {
          image   = var.image
          command = var.command
          args    = ["serve", "gateway"]
          ports   = ["http", "metrics"]
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
          args    = ["serve", "gateway"]
        }
      }

      env = merge(var.env, {
        MLSERVICE_CONFIG                = var.config
        MLSERVICE_GATEWAY__HOST         = "0.0.0.0"
        MLSERVICE_GATEWAY__PORT         = "${NOMAD_PORT_http}"
        MLSERVICE_GATEWAY__METRICS_PORT = "${NOMAD_PORT_metrics}"
        MLSERVICE_LIVE__FILE            = "${NOMAD_TASK_DIR}/live.json"
        MLSERVICE_EVENTS__FOLDER        = "${NOMAD_ALLOC_DIR}/events"
      })

      # The live file has the workers and upstreams that pass their checks, and the operators'
      # settings. The gateway follows the file. A change in Consul is in force after it is rendered
      # (within `wait`), and after the gateway has read it (within half a second).
      template {
        destination = "local/live.json"
        change_mode = "noop"

        wait {
          min = "1s"
          max = "4s"
        }

        data = << "<<EOT" >>
{
  "format": 1,
  "workers": [
    {{- range $i, $worker := service "<< cookiecutter.service_slug >>-worker" -}}
    {{- if $i }}, {{ end }}{
      "address": "{{ $worker.Address }}:{{ $worker.Port }}",
      "version": "{{ with $worker.ServiceMeta.version }}{{ . }}{{ else }}stable{{ end }}"
    }
    {{- end -}}
  ],
  "routing": {{ keyOrDefault "mlservice/<< cookiecutter.service_slug >>/routing" "null" }},
  "toggles": {{ keyOrDefault "mlservice/<< cookiecutter.service_slug >>/toggles" "null" }},
  "clients": {{ keyOrDefault "mlservice/<< cookiecutter.service_slug >>/clients" "null" }},
  "upstreams": {
    ${join(",\n    ", [for name, service in var.upstreams : "\"${name}\": [{{ range $i, $one := service \"${service}\" }}{{ if $i }}, {{ end }}\"http://{{ $one.Address }}:{{ $one.Port }}\"{{ end }}]"])}
  }
}
EOT
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
        cpu        = var.gateway_cpu
        memory     = var.gateway_memory_mb
        memory_max = var.gateway_memory_max_mb
      }
    }
  }
}
