{{- define "entityclip.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 50 characters, so that what is appended stays within 63. */}}
{{- define "entityclip.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "entityclip.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "entityclip.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "entityclip.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "entityclip.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "entityclip.selectorLabels" -}}
app.kubernetes.io/name: {{ include "entityclip.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: worker
{{- end -}}

{{/* What pods get beside the labels of everything. */}}
{{- define "entityclip.podLabels" -}}
{{- range $name, $value := .Values.podLabels -}}
{{- if not (hasKey $.Values.commonLabels $name) }}
{{ $name }}: {{ $value | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Of everything but the worker's pods: nothing selects by them. */}}
{{- define "entityclip.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "entityclip.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "entityclip.image" -}}
{{- $tag := default (printf "%s%s" .Chart.AppVersion (ternary "-cuda" "" (eq .Values.device "cuda"))) .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* Seconds that one pod may take to become ready, with what comes before its startup probe begins. */}}
{{- define "entityclip.startDeadline" -}}
{{- add (int .Values.probes.startup.budgetSeconds) 300 -}}
{{- end -}}

{{- define "entityclip.drainDeadline" -}}
{{- $deadline := .Values.config.drain_deadline_s -}}
{{- ternary 20 $deadline (kindIs "invalid" $deadline) -}}
{{- end -}}

{{- define "entityclip.partitions" -}}
{{- dig "kafka" "partitions" 6 .Values.config | int -}}
{{- end -}}

{{- define "entityclip.maxReplicas" -}}
{{- min (int .Values.autoscaling.maxReplicas) (int (include "entityclip.partitions" .)) -}}
{{- end -}}
