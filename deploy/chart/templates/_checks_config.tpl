{{/* What a dotted path of the settings holds, as text; empty where it is not set. */}}
{{- define "entityclip.setting" -}}
{{- $parts := splitList "." .path -}}
{{- $place := ternary .config (default dict (get .config (first $parts))) (eq (len $parts) 1) -}}
{{- default "" (get $place (last $parts)) -}}
{{- end -}}

{{/* How a setting is named that is a secret. */}}
{{- define "entityclip.asSecret" -}}
under `secrets` write `{{ . }}: {name: …, key: …}`, with the name of a Secret and one of its keys
{{- end -}}

{{- define "entityclip.checkConfig" -}}
{{- $moved := dict "device" "set `device`" "model" "set `model.path`" "next_model" "set `nextModel.path`" "metrics" "the chart serves them on port 9108, of `listenAddress`" "offsets" "it is for file sources" "until" "a run that ends would be started again for ever; use a Job" -}}
{{- range $path := list "store_api_key" "kafka.sasl_password" "kafka.ssl_key_password" "llm.api_key" -}}
{{- $_ := set $moved $path (printf "it is a secret: %s" (include "entityclip.asSecret" $path)) -}}
{{- end -}}
{{- range $path, $instead := $moved -}}
{{- if include "entityclip.setting" (dict "config" $.Values.config "path" $path) -}}
{{- fail (printf "config.%s cannot be set here: %s" $path $instead) -}}
{{- end -}}
{{- end -}}
{{- with .Values.config -}}
{{- if not (regexMatch "^https?://[^/]" .store) -}}
{{- fail (printf "config.store %q is no address of a Qdrant server, as http://qdrant:6333: a folder would go with its pod, and every worker would have its own" .store) -}}
{{- end -}}
{{- end -}}
{{- $llm := default dict .Values.config.llm -}}
{{- if and (or $llm.base_url (hasKey .Values.secrets "llm.base_url")) (not $llm.model) -}}
{{- fail "config.llm.model is not set: name the model that is asked for at llm.base_url" -}}
{{- end -}}
{{- end -}}

{{/* Nothing secret stands in `config`, and no setting in two places. */}}
{{- define "entityclip.checkPasswords" -}}
{{- range $path := list "store" "media_store" "redis.url" "llm.base_url" -}}
{{- $url := include "entityclip.setting" (dict "config" $.Values.config "path" $path) -}}
{{- if or (regexMatch "//[^/@]*@" $url) (regexMatch "(?i)[?&][a-z0-9_.-]*(password|secret|token|key)=" $url) -}}
{{- fail (printf "config.%s holds a user, a password or a key: %s" $path (include "entityclip.asSecret" $path)) -}}
{{- end -}}
{{- end -}}
{{- range $path, $secret := .Values.secrets -}}
{{- if and (ne $path "store") (include "entityclip.setting" (dict "config" $.Values.config "path" $path)) -}}
{{- fail (printf "config.%s and secrets.%s name the same setting: set one of them" $path $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A worker that reads what it writes never comes to an end. */}}
{{- define "entityclip.checkTopics" -}}
{{- $seen := dict -}}
{{- range $name := list "source" "sink" "outcomes" "dead_letters" -}}
{{- $topic := default "" (get $.Values.config $name) -}}
{{- if and $topic (hasKey $seen $topic) -}}
{{- fail (printf "config.%s and config.%s are both %s: each needs a topic of its own" (get $seen $topic) $name $topic) -}}
{{- end -}}
{{- $_ := set $seen $topic $name -}}
{{- end -}}
{{- end -}}

{{/* The folder that thumbnails go to, empty where it is none. */}}
{{- define "entityclip.mediaFolder" -}}
{{- $media := regexReplaceAll "^(file|local)://" (default "" .Values.config.media_store) "" -}}
{{- if and $media (not (contains "://" $media)) -}}
{{ clean (ternary $media (printf "/var/lib/entityclip/%s" $media) (hasPrefix "/" $media)) }}
{{- end -}}
{{- end -}}

{{- define "entityclip.checkMedia" -}}
{{- $media := include "entityclip.mediaFolder" . -}}
{{- $kept := ternary (list "/var/lib/entityclip") list (not (empty .Values.home.existingClaim)) -}}
{{- range .Values.extraVolumeMounts -}}
{{- if not .readOnly -}}
{{- $kept = append $kept (clean .mountPath) -}}
{{- end -}}
{{- end -}}
{{- $isKept := false -}}
{{- range $folder := $kept -}}
{{- $isKept = or $isKept (hasPrefix (printf "%s/" $folder) (printf "%s/" $media)) -}}
{{- end -}}
{{- if and $media (not $isKept) -}}
{{- fail (printf "config.media_store %s is a folder that goes with its pod: name a bucket, as s3://BUCKET/FOLDER, or mount a volume there (home.existingClaim, extraVolumeMounts)" $media) -}}
{{- end -}}
{{- end -}}
