"""Values of the chart that operators may have: each case is rendered once and held against everything."""

from __future__ import annotations

from typing import Any

Values = dict[str, Any]

PASSWORD = {"kafka.sasl_password": {"name": "kafka-user", "key": "password"}}
SASL_KAFKA = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_username": "entityclip",
}
SASL: Values = {"config": {"kafka": SASL_KAFKA}, "secrets": PASSWORD}
TLS: Values = {"config": {"kafka": {"security_protocol": "SSL"}}, "kafkaTls": {"secretName": "kafka-ca"}}
MUTUAL_TLS: Values = {
    "config": {"kafka": {"security_protocol": "SSL"}},
    "kafkaTls": {"secretName": "kafka-client", "cert": "tls.crt", "key": "tls.key"},
    "secrets": {"kafka.ssl_key_password": {"name": "kafka-client", "key": "key-password"}},
}
SASL_SSL: Values = {
    "config": {"kafka": SASL_KAFKA | {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}},
    "kafkaTls": {"secretName": "kafka-ca"},
    "secrets": PASSWORD,
}
SECRETS: Values = {
    "secrets": {
        "redis.url": {"name": "redis", "key": "url"},
        "store": {"name": "qdrant", "key": "url"},
        "store_api_key": {"name": "qdrant", "key": "api-key"},
        "llm.api_key": {"name": "llm", "key": "api-key"},
        "media_store": {"name": "media", "key": "url"},
    },
    "config": {"llm": {"base_url": "https://llm.example.org/v1", "model": "a-model"}},
    "extraEnv": [{"name": "AWS_REGION", "value": "eu-central-1"}],
    "extraEnvFrom": [{"secretRef": {"name": "media"}}],
}
NETWORK: Values = {
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        ],
        "kafka": {"to": [{"podSelector": {"matchLabels": {"app": "kafka"}}}], "ports": [9092, 9093]},
        "store": {"to": [{"podSelector": {"matchLabels": {"app": "qdrant"}}}]},
    }
}
EVERY_DEPENDENCY: Values = {
    "config": {
        "redis": {"url": "redis://redis:6379/0"},
        "llm": {"base_url": "https://llm.example.org/v1", "model": "a-model"},
        "media_store": "s3://bucket/thumbnails",
        "fetch": {"allow_networks": ["10.1.0.0/16", "10.3.0.7", "fd00::7"]},
    },
    "networkPolicy": NETWORK["networkPolicy"]
    | {
        "redis": {"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}]},
        "llm": {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
        "mediaStore": {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [443]},
        "extraEgress": [{"to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}]}],
    },
}
MONITORING: Values = {
    "serviceMonitor": {"enabled": True, "labels": {"prometheus": "main"}},
    "prometheusRule": {"enabled": True, "labels": {"prometheus": "main"}, "alertLabels": {"team": "news"}},
    "dashboard": {"enabled": True},
}
KEDA: Values = {"autoscaling": {"enabled": True}}

CASES: dict[str, Values] = {
    "defaults": {},
    "several workers": {"replicaCount": 3, "config": {"redis": {"url": "redis://redis:6379/0"}}},
    "gpu": {"device": "cuda"},
    "gpu of a named runtime and nodes": {
        "device": "cuda",
        "gpu": {"runtimeClassName": "nvidia", "nodeSelector": {"accelerator": "l4"}},
        "nodeSelector": {"pool": "workers"},
        "tolerations": [{"key": "pool", "operator": "Exists"}],
    },
    "keda": KEDA,
    "keda from nothing": {"autoscaling": {"enabled": True, "minReplicas": 0, "maxReplicas": 3}},
    "keda and tls": KEDA | TLS,
    "keda and mutual tls": KEDA | MUTUAL_TLS,
    "keda and sasl": KEDA | SASL,
    "keda, tls and sasl": KEDA | SASL_SSL,
    "tls": TLS,
    "mutual tls": MUTUAL_TLS,
    "sasl": SASL,
    "tls and sasl": SASL_SSL,
    "existing secrets": SECRETS,
    "certificate authorities": {"caBundle": {"configMap": "company-ca", "key": "bundle.pem"}},
    "network policy": NETWORK,
    "network policy without fetching": NETWORK | {"config": {"fetch": {"enabled": False}}},
    "network policy to every dependency": EVERY_DEPENDENCY,
    "model from a claim": {"model": {"path": "/models/vit-b-32", "existingClaim": "weights"}},
    "two models": {
        "model": {"path": "/models/old", "existingClaim": "weights"},
        "nextModel": {"path": "/models/new"},
    },
    "model from an init container": {
        "model": {
            "path": "/models/vit-b-32",
            "initContainer": {
                "image": "registry.example.org/fetch:1.2",
                "command": ["fetch"],
                "args": ["s3://bucket/models", "/models"],
                "env": [{"name": "HOME", "value": "/tmp"}],
                "envFrom": [{"secretRef": {"name": "weights"}}],
            },
        }
    },
    "a command": {"job": {"args": ["migrate", "backfill", "--to", "/models/new"]}},
    "monitoring": MONITORING,
    "monitoring without rules": {"serviceMonitor": {"enabled": True}},
    "image by digest": {
        "image": {"repository": "registry.example.org/entityclip", "digest": f"sha256:{'0a' * 32}"}
    },
    "everything about the pod": {
        "fullnameOverride": "matcher",
        "home": {"existingClaim": "home"},
        "commonLabels": {"team": "news"},
        "imagePullSecrets": [{"name": "registry"}],
        "priorityClassName": "stream",
        "podAnnotations": {"example.org/owner": "news"},
        "podLabels": {"tier": "stream"},
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"tier": "stream"}},
                    }
                ]
            }
        },
        "serviceAccount": {"create": False, "name": "matcher"},
        "extraVolumes": [{"name": "media", "persistentVolumeClaim": {"claimName": "media"}}],
        "extraVolumeMounts": [{"name": "media", "mountPath": "/media"}],
        "config": {"media_store": "/media"},
        "podDisruptionBudget": {"maxUnavailable": "25%"},
        "updateStrategy": {"type": "Recreate", "rollingUpdate": None},
    },
    "thumbnails on a claim": {
        "config": {"media_store": "/var/lib/entityclip/media"},
        "home": {"existingClaim": "home"},
    },
    "a cluster with ipv6": {"listenAddress": "::"},
    "an own spread": {
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"tier": "workers"}},
            }
        ],
        "podLabels": {"tier": "workers"},
    },
    "neither account nor budget": {
        "serviceAccount": {"create": False},
        "podDisruptionBudget": {"enabled": False},
        "topologySpreadConstraints": [],
    },
}

# Valid only where images can be mounted as volumes.
VOLUME_IMAGE: Values = {
    "model": {"path": "/models/vit-b-32", "volumeImage": "registry.example.org/weights:1"}
}
