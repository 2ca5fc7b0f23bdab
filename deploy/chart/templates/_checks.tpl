{{/* What one value alone cannot say is wrong, in one line each. The schema has refused the rest. */}}
{{- define "entityclip.checks" -}}
{{- $values := .Values -}}
{{- include "entityclip.checkConfig" . -}}
{{- include "entityclip.checkSecrets" . -}}
{{- include "entityclip.checkScale" . -}}
{{- include "entityclip.checkRollout" . -}}
{{- include "entityclip.checkModel" . -}}
{{- include "entityclip.checkNetwork" . -}}
{{- if and (eq $values.image.tag "latest") (not $values.image.digest) -}}
{{- fail "image.tag latest may be anything, and there is no way back to it: name a version" -}}
{{- end -}}
{{- range $values.extraEnv -}}
{{- if hasPrefix "ENTITYCLIP_" .name -}}
{{- fail (printf "extraEnv: %s belongs in `config`, or in `secrets` if it is one" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "entityclip.checkConfig" -}}
{{- $moved := dict "device" "set `device`" "model" "set `model.path`" "next_model" "set `nextModel.path`" "metrics" "the chart serves them on port 9108" "offsets" "it is for file sources" "until" "a run that ends would be started again for ever; use a Job" "store_api_key" "it is a secret: name a Secret's key under `secrets`" "kafka.sasl_password" "it is a secret: name a Secret's key under `secrets`" "kafka.ssl_key_password" "it is a secret: name a Secret's key under `secrets`" "llm.api_key" "it is a secret: name a Secret's key under `secrets`" -}}
{{- range $path, $instead := $moved -}}
{{- if include "entityclip.setting" (dict "config" $.Values.config "path" $path) -}}
{{- fail (printf "config.%s cannot be set here: %s" $path $instead) -}}
{{- end -}}
{{- end -}}
{{- range $path := list "store" "media_store" "redis.url" "llm.base_url" -}}
{{- if regexMatch "//[^/@]*@" (include "entityclip.setting" (dict "config" $.Values.config "path" $path)) -}}
{{- fail (printf "config.%s holds a user or a password: name a Secret's key under `secrets.%s`" $path $path) -}}
{{- end -}}
{{- end -}}
{{- $kafka := .Values.config.kafka -}}
{{- if and .Values.kafkaTls.secretName (or $kafka.ssl_ca_file $kafka.ssl_cert_file $kafka.ssl_key_file) -}}
{{- fail "kafkaTls.secretName and config.kafka.ssl_*_file name the same thing: set one of them" -}}
{{- end -}}
{{- if and .Values.kafkaTls.secretName (not (hasSuffix "SSL" (default "PLAINTEXT" $kafka.security_protocol))) -}}
{{- fail "kafkaTls.secretName needs config.kafka.security_protocol SSL or SASL_SSL" -}}
{{- end -}}
{{- if ne (empty .Values.kafkaTls.cert) (empty .Values.kafkaTls.key) -}}
{{- fail "kafkaTls.cert and kafkaTls.key belong together: set both, or neither" -}}
{{- end -}}
{{- if hasPrefix "SASL" (default "PLAINTEXT" $kafka.security_protocol) -}}
{{- if not $kafka.sasl_mechanism -}}
{{- fail "config.kafka.security_protocol is one with SASL: set config.kafka.sasl_mechanism" -}}
{{- end -}}
{{- if not (or $kafka.sasl_username (hasKey .Values.secrets "kafka.sasl_username")) -}}
{{- fail "config.kafka.security_protocol is one with SASL: set config.kafka.sasl_username, or secrets.kafka.sasl_username" -}}
{{- end -}}
{{- if not (hasKey .Values.secrets "kafka.sasl_password") -}}
{{- fail "config.kafka.security_protocol is one with SASL: name the password's Secret under secrets, as kafka.sasl_password" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a dotted path of the settings holds, as text; empty where it is not set. */}}
{{- define "entityclip.setting" -}}
{{- $parts := splitList "." .path -}}
{{- $place := ternary .config (default dict (get .config (first $parts))) (eq (len $parts) 1) -}}
{{- default "" (get $place (last $parts)) -}}
{{- end -}}

{{- define "entityclip.checkSecrets" -}}
{{- range $path, $secret := .Values.secrets -}}
{{- if and (ne $path "store") (include "entityclip.setting" (dict "config" $.Values.config "path" $path)) -}}
{{- fail (printf "config.%s and secrets.%s name the same setting: set one of them" $path $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "entityclip.checkScale" -}}
{{- $partitions := int (include "entityclip.partitions" .) -}}
{{- with .Values.autoscaling -}}
{{- if .enabled -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas %d is more than autoscaling.maxReplicas %d" (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- if gt (int .minReplicas) $partitions -}}
{{- fail (printf "autoscaling.minReplicas %d is more than config.kafka.partitions %d: a worker without a partition does nothing" (int .minReplicas) $partitions) -}}
{{- end -}}
{{- if gt (int .fallbackReplicas) (min (int .maxReplicas) $partitions) -}}
{{- fail (printf "autoscaling.fallbackReplicas %d is more than may run, %d" (int .fallbackReplicas) (min (int .maxReplicas) $partitions)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.autoscaling.enabled) (gt (int .Values.replicaCount) $partitions) -}}
{{- fail (printf "replicaCount %d is more than config.kafka.partitions %d: a worker without a partition does nothing" (int .Values.replicaCount) $partitions) -}}
{{- end -}}
{{- end -}}

{{- define "entityclip.checkRollout" -}}
{{- with .Values.updateStrategy -}}
{{- if and (eq .type "Recreate") .rollingUpdate -}}
{{- fail "updateStrategy.rollingUpdate is for RollingUpdate: set it to null with Recreate" -}}
{{- end -}}
{{- if and .rollingUpdate (has (toString .rollingUpdate.maxSurge) (list "0" "0%")) (has (toString .rollingUpdate.maxUnavailable) (list "0" "0%")) -}}
{{- fail "updateStrategy.rollingUpdate: maxSurge and maxUnavailable are both 0, so no pod could ever be replaced" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "entityclip.checkModel" -}}
{{- $model := .Values.model -}}
{{- $sources := list -}}
{{- range $name, $value := dict "existingClaim" $model.existingClaim "volumeImage" $model.volumeImage "initContainer.image" $model.initContainer.image -}}
{{- if $value -}}
{{- $sources = append $sources (printf "model.%s" $name) -}}
{{- end -}}
{{- end -}}
{{- if gt (len $sources) 1 -}}
{{- fail (printf "%s: a model comes from one of them" (join " and " $sources)) -}}
{{- end -}}
{{- range $name, $path := dict "model.path" $model.path "nextModel.path" .Values.nextModel.path -}}
{{- if and (hasPrefix "/models/" $path) (not $sources) -}}
{{- fail (printf "%s is %s, but nothing is mounted at /models: set model.existingClaim, model.volumeImage or model.initContainer.image" $name $path) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.model.path .Values.nextModel.path -}}
{{- fail "nextModel.path and model.path are the same" -}}
{{- end -}}
{{- end -}}

{{/* An empty list of peers would mean every peer. */}}
{{- define "entityclip.checkNetwork" -}}
{{- if .Values.networkPolicy.enabled -}}
{{- range $name, $peers := fromJson (include "entityclip.dependencies" .) -}}
{{- if not $peers.to -}}
{{- fail (printf "networkPolicy.%s.to is empty, but the worker is configured to use it: name its peers" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
