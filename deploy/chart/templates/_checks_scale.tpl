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
{{- with .Values.podDisruptionBudget -}}
{{- if and .enabled (regexMatch "^0+%?$" (toString .maxUnavailable)) -}}
{{- fail (printf "podDisruptionBudget.maxUnavailable %v: no node with a worker could be drained; name at least 1, or set podDisruptionBudget.enabled to false" .maxUnavailable) -}}
{{- end -}}
{{- end -}}
{{- with .Values.updateStrategy -}}
{{- if and (eq .type "Recreate") .rollingUpdate -}}
{{- fail "updateStrategy.rollingUpdate is for RollingUpdate: set it to null with Recreate" -}}
{{- end -}}
{{- if and .rollingUpdate (has (toString .rollingUpdate.maxSurge) (list "0" "0%")) (has (toString .rollingUpdate.maxUnavailable) (list "0" "0%")) -}}
{{- fail "updateStrategy.rollingUpdate: maxSurge and maxUnavailable are both 0, so no pod could ever be replaced" -}}
{{- end -}}
{{- end -}}
{{- end -}}
