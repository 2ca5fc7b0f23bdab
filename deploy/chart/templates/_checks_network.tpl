{{- define "entityclip.checkNetwork" -}}
{{- with .Values.networkPolicy -}}
{{- if .enabled -}}
{{- if not .dns.to -}}
{{- fail "networkPolicy.dns.to is empty, which would mean everybody: name its peers" -}}
{{- end -}}
{{- if and $.Values.serviceMonitor.enabled (not .metricsFrom) -}}
{{- fail "networkPolicy.metricsFrom is empty, which keeps a Prometheus in another namespace out, but serviceMonitor.enabled is true: name it there, as namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAMESPACE}} (podSelector: {} for this one)" -}}
{{- end -}}
{{- range $name, $peers := fromJson (include "entityclip.dependencies" $) -}}
{{- /* an empty list of peers would mean every peer */ -}}
{{- if not $peers.to -}}
{{- fail (printf "networkPolicy.%s.to is empty, but the worker is configured to use it: name its peers" $name) -}}
{{- end -}}
{{- end -}}
{{- include "entityclip.checkPorts" $ -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The port of every address that stands in `config` is let through; those of Secrets cannot be seen. */}}
{{- define "entityclip.checkPorts" -}}
{{- range fromJsonArray (include "entityclip.brokers" .) -}}
{{- include "entityclip.checkPort" (dict "policy" $.Values.networkPolicy "name" "kafka" "setting" "kafka.bootstrap_servers" "port" .port) -}}
{{- end -}}
{{- /* by scheme, where the address names none; the store's client takes its own for both */ -}}
{{- $defaults := dict "store" (dict "http" 6333 "https" 6333) "redis.url" (dict "redis" 6379 "rediss" 6379) "llm.base_url" (dict "http" 80 "https" 443) -}}
{{- range $setting, $ports := $defaults -}}
{{- $url := ternary "" (include "entityclip.setting" (dict "config" $.Values.config "path" $setting)) (hasKey $.Values.secrets $setting) -}}
{{- $scheme := regexFind "^[a-z]+" $url -}}
{{- if hasKey $ports $scheme -}}
{{- $named := regexFind "[0-9]+$" (regexFind "^[a-z]+://(\\[[^]]*\\]|[^/:?#]*):[0-9]+" $url) -}}
{{- include "entityclip.checkPort" (dict "policy" $.Values.networkPolicy "name" (first (splitList "." $setting)) "setting" $setting "port" (int (default (get $ports $scheme) $named))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "entityclip.checkPort" -}}
{{- $ports := list -}}
{{- range (get .policy .name).ports -}}
{{- $ports = append $ports (int .) -}}
{{- end -}}
{{- if not (has (int .port) $ports) -}}
{{- fail (printf "config.%s is on port %d, but networkPolicy.%s.ports lets %s through: add it" .setting (int .port) .name (join " and " $ports)) -}}
{{- end -}}
{{- end -}}

{{/* Which dependencies are configured: {name: {to, ports}}. */}}
{{- define "entityclip.dependencies" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $used := dict "kafka" $policy.kafka "store" $policy.store -}}
{{- range $name, $setting := dict "redis" "redis.url" "llm" "llm.base_url" -}}
{{- $url := include "entityclip.setting" (dict "config" $.Values.config "path" $setting) -}}
{{- if or (hasKey $.Values.secrets $setting) (and $url (not (hasPrefix "unix://" $url))) -}}
{{- $_ := set $used $name (get $policy $name) -}}
{{- end -}}
{{- end -}}
{{- if or (hasKey .Values.secrets "media_store") (and .Values.config.media_store (not (include "entityclip.mediaFolder" .))) -}}
{{- $_ := set $used "mediaStore" $policy.mediaStore -}}
{{- end -}}
{{- toJson $used -}}
{{- end -}}
