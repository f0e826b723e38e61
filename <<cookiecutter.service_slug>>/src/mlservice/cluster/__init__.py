"""Nomad and Consul: thin clients that know where the libraries below them fall short."""

from mlservice.cluster.consul import ConsulStore, Entry, open_consul
from mlservice.cluster.nomad import Dispatched, Nomad, open_nomad

__all__ = ["ConsulStore", "Dispatched", "Entry", "Nomad", "open_consul", "open_nomad"]
