{{/*
What one value alone cannot say is wrong, and what the schema could only refuse with a pattern, in one line each. The
schema has refused the rest. By theme: _checks_config.tpl, _checks_kafka.tpl, _checks_network.tpl, _checks_scale.tpl.
*/}}
{{- define "entityclip.checks" -}}
{{- include "entityclip.checkConfig" . -}}
{{- include "entityclip.checkPasswords" . -}}
{{- include "entityclip.checkTopics" . -}}
{{- include "entityclip.checkMedia" . -}}
{{- include "entityclip.checkKafka" . -}}
{{- include "entityclip.checkScale" . -}}
{{- include "entityclip.checkKeda" . -}}
{{- include "entityclip.checkRollout" . -}}
{{- include "entityclip.checkModel" . -}}
{{- include "entityclip.checkImage" . -}}
{{- include "entityclip.checkNetwork" . -}}
{{- range .Values.extraEnv -}}
{{- if hasPrefix "ENTITYCLIP_" .name -}}
{{- fail (printf "extraEnv: %s belongs in `config`, or in `secrets` if it is one" .name) -}}
{{- end -}}
{{- end -}}
{{- if lt (float64 (include "entityclip.byteCount" .Values.resources.limits.memory)) 1073741824.0 -}}
{{- fail (printf "resources.limits.memory %s is too little: the worker alone takes most of 1Gi, the defaults of config.limits fit 4Gi" (toJson .Values.resources.limits.memory | trimAll "\"")) -}}
{{- end -}}
{{- end -}}

{{- define "entityclip.checkImage" -}}
{{- with .Values.image -}}
{{- if not .digest -}}
{{- if eq (default "" .tag) "latest" -}}
{{- fail "image.tag latest may be anything, and there is no way back to it: name a version" -}}
{{- end -}}
{{- if and (eq $.Values.device "cuda") .tag (not (contains "cuda" (printf "%s:%s" .repository .tag))) -}}
{{- fail (printf "image.tag %s is not an image for GPUs, but device is cuda: name one with cuda in it, leave it empty, or name image.digest" .tag) -}}
{{- end -}}
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
{{- range $name, $path := dict "model.path" $model.path "nextModel.path" (default "tiny" .Values.nextModel.path) -}}
{{- if not (regexMatch "^(tiny|/models/\\S+)$" $path) -}}
{{- fail (printf "%s %q is neither tiny, which is in the image, nor a folder below /models, where model.existingClaim, model.volumeImage and model.initContainer put checkpoints" $name $path) -}}
{{- end -}}
{{- if and (hasPrefix "/models/" $path) (not $sources) -}}
{{- fail (printf "%s is %s, but nothing is mounted at /models: set model.existingClaim, model.volumeImage or model.initContainer.image" $name $path) -}}
{{- end -}}
{{- end -}}
{{- if eq $model.path (default "" .Values.nextModel.path) -}}
{{- fail "nextModel.path and model.path are the same" -}}
{{- end -}}
{{- end -}}

{{/* A quantity of Kubernetes as a number, near enough to compare. */}}
{{- define "entityclip.byteCount" -}}
{{- $text := toJson . | trimAll "\"" -}}
{{- $number := float64 (regexFind "^[0-9.]+" $text) -}}
{{- $unit := regexFind "[a-zA-Z]+$" $text -}}
{{- if kindIs "string" . -}}
{{- if eq $unit "m" -}}
{{- $number = divf $number 1000 -}}
{{- else if $unit -}}
{{- range until (int (get (dict "k" 1 "K" 1 "M" 2 "G" 3 "T" 4 "P" 5 "E" 6) (trunc 1 $unit))) -}}
{{- $number = mulf $number (ternary 1024 1000 (hasSuffix "i" $unit)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $number -}}
{{- end -}}
