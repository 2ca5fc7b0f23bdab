{{- define "entityclip.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
# a volume of weights is not walked file by file at each start
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "entityclip.securityContext" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What the worker's pods and those of `helm test` have in common. */}}
{{- define "entityclip.podBasics" -}}
automountServiceAccountToken: false
# A Service called `entityclip-…` in this namespace would otherwise put ENTITYCLIP_… into the environment, which are
# settings that the worker does not know.
enableServiceLinks: false
serviceAccountName: {{ include "entityclip.serviceAccountName" . }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext: {{- include "entityclip.podSecurityContext" . | nindent 2 }}
{{- end -}}

{{- define "entityclip.placement" -}}
{{- $isGpu := eq .Values.device "cuda" -}}
{{- $nodes := ternary (merge dict .Values.nodeSelector .Values.gpu.nodeSelector) .Values.nodeSelector $isGpu -}}
{{- $tolerations := ternary (concat (default list .Values.tolerations) .Values.gpu.tolerations) .Values.tolerations $isGpu -}}
{{- if and $isGpu .Values.gpu.runtimeClassName }}
runtimeClassName: {{ .Values.gpu.runtimeClassName }}
{{- end }}
{{- with $nodes }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "entityclip.spread" -}}
{{- $selector := dict "matchLabels" (fromYaml (include "entityclip.selectorLabels" .)) -}}
{{- $entries := list -}}
{{- range .Values.topologySpreadConstraints -}}
{{- $entries = append $entries (ternary . (merge (dict "labelSelector" $selector) .) (hasKey . "labelSelector")) -}}
{{- end -}}
{{- with $entries }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "entityclip.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if eq .Values.device "cuda" -}}
{{- $_ := set $resources "limits" (merge (dict .Values.gpu.resource (int .Values.gpu.count)) $resources.limits) -}}
{{- end -}}
{{ toYaml $resources }}
{{- end -}}

{{- define "entityclip.hasModelVolume" -}}
{{- if or .Values.model.existingClaim .Values.model.volumeImage .Values.model.initContainer.image }}true{{ end -}}
{{- end -}}

{{- define "entityclip.volumeMounts" -}}
- name: home
  mountPath: /var/lib/entityclip
- name: tmp
  mountPath: /tmp
{{- if include "entityclip.hasModelVolume" . }}
- name: models
  mountPath: /models
  readOnly: true
{{- end }}
{{- if .Values.kafkaTls.secretName }}
- name: kafka-tls
  mountPath: /etc/entityclip/tls
  readOnly: true
{{- end }}
{{- if .Values.caBundle.configMap }}
- name: ca-bundle
  mountPath: /etc/entityclip/ca
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "entityclip.volumes" -}}
- name: home
  {{- if .Values.home.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ .Values.home.existingClaim }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .Values.home.sizeLimit }}
  {{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.tmp.sizeLimit }}
{{- if .Values.model.existingClaim }}
- name: models
  persistentVolumeClaim:
    claimName: {{ .Values.model.existingClaim }}
    readOnly: true
{{- else if .Values.model.volumeImage }}
- name: models
  image:
    reference: {{ .Values.model.volumeImage }}
    pullPolicy: {{ .Values.model.volumeImagePullPolicy }}
{{- else if .Values.model.initContainer.image }}
- name: models
  emptyDir:
    sizeLimit: {{ .Values.model.initContainer.sizeLimit }}
{{- end }}
{{- if .Values.kafkaTls.secretName }}
- name: kafka-tls
  secret:
    secretName: {{ .Values.kafkaTls.secretName }}
    # read by the pod's group, by nobody else
    defaultMode: 0440
{{- end }}
{{- if .Values.caBundle.configMap }}
- name: ca-bundle
  configMap:
    name: {{ .Values.caBundle.configMap }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "entityclip.initContainers" -}}
{{- with .Values.model.initContainer }}
{{- if .image }}
initContainers:
  - name: model
    image: {{ .image }}
    imagePullPolicy: {{ .imagePullPolicy }}
    {{- with .command }}
    command: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .args }}
    args: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .env }}
    env: {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .envFrom }}
    envFrom: {{- toYaml . | nindent 6 }}
    {{- end }}
    resources: {{- toYaml .resources | nindent 6 }}
    securityContext: {{- include "entityclip.securityContext" $ | nindent 6 }}
    volumeMounts:
      - name: models
        mountPath: /models
      - name: tmp
        mountPath: /tmp
{{- end }}
{{- end }}
{{- end -}}
