{{/*
The worker's settings as ENTITYCLIP_* variables. A table at the top is a section; a list or a table within one is
JSON. Numbers go through toJson, which keeps large ones from becoming 1.6777216e+07.
*/}}
{{- define "entityclip.settings" -}}
{{- $settings := dict "ENTITYCLIP_DEVICE" .Values.device "ENTITYCLIP_METRICS__ADDRESS" .Values.listenAddress "ENTITYCLIP_METRICS__PORT" "9108" -}}
{{- $_ := set $settings "ENTITYCLIP_MODEL" .Values.model.path -}}
{{- with .Values.nextModel.path -}}
{{- $_ := set $settings "ENTITYCLIP_NEXT_MODEL" . -}}
{{- end -}}
{{- range $key, $value := .Values.config -}}
{{- if kindIs "map" $value -}}
{{- range $name, $inner := $value -}}
{{- if not (kindIs "invalid" $inner) -}}
{{- $_ := set $settings (printf "ENTITYCLIP_%s__%s" (upper $key) (upper $name)) (include "entityclip.asText" $inner) -}}
{{- end -}}
{{- end -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $_ := set $settings (printf "ENTITYCLIP_%s" (upper $key)) (include "entityclip.asText" $value) -}}
{{- end -}}
{{- end -}}
{{- if .Values.kafkaTls.secretName -}}
{{- range $setting, $file := dict "CA" .Values.kafkaTls.ca "CERT" .Values.kafkaTls.cert "KEY" .Values.kafkaTls.key -}}
{{- if $file -}}
{{- $_ := set $settings (printf "ENTITYCLIP_KAFKA__SSL_%s_FILE" $setting) (printf "/etc/entityclip/tls/%s" $file) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $setting, $secret := .Values.secrets -}}
{{- $_ := unset $settings (include "entityclip.variable" $setting) -}}
{{- end -}}
{{- /* `quote`, since toYaml leaves out everything where one string holds a character that YAML does not print */ -}}
{{- range $name, $value := $settings }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "entityclip.asText" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{/* The variable of a dotted path. */}}
{{- define "entityclip.variable" -}}
ENTITYCLIP_{{ . | replace "." "__" | upper }}
{{- end -}}

{{/* Of the worker and of the pods of `helm test`: what the ConfigMap does not hold. */}}
{{- define "entityclip.env" -}}
{{- $given := list -}}
{{- range .Values.extraEnv -}}
{{- $given = append $given .name -}}
{{- end -}}
{{- if not (has "OMP_NUM_THREADS" $given) -}}
# torch would count the cores of the node
- name: OMP_NUM_THREADS
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
      divisor: "1"
{{- end }}
{{- if .Values.caBundle.configMap }}
# the clients of S3 have their own variable
{{- range list "SSL_CERT_FILE" "AWS_CA_BUNDLE" }}
{{- if not (has . $given) }}
- name: {{ . }}
  value: /etc/entityclip/ca/{{ $.Values.caBundle.key }}
{{- end }}
{{- end }}
{{- end }}
{{- range $setting, $secret := .Values.secrets }}
- name: {{ include "entityclip.variable" $setting }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name | quote }}
      key: {{ $secret.key | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "entityclip.envFrom" -}}
- configMapRef:
    name: {{ include "entityclip.fullname" . }}-config
{{- with .Values.extraEnvFrom }}
{{ toYaml . }}
{{- end }}
{{- end -}}
