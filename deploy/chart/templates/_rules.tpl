{{/* A quantity of Kubernetes in PromQL: 4Gi is 4 * 1024 ^ 3. */}}
{{- define "entityclip.bytes" -}}
{{- $text := toJson . | trimAll "\"" -}}
{{- $number := regexFind "^[0-9.]+" $text -}}
{{- $powers := dict "k" 1 "K" 1 "M" 2 "G" 3 "T" 4 "P" 5 "E" 6 -}}
{{- $unit := regexFind "[a-zA-Z]+$" $text -}}
{{- if $unit -}}
{{- printf "%s * %d ^ %d" $number (ternary 1024 1000 (hasSuffix "i" $unit)) (get $powers (trunc 1 $unit)) -}}
{{- else -}}
{{- $number -}}
{{- end -}}
{{- end -}}

{{/* The groups of files/rules.yaml without the alerts that are disabled, with the labels that every alert gets and
the thresholds and the place of the runbook that the values name. */}}
{{- define "entityclip.ruleGroups" -}}
{{- $disabled := .Values.prometheusRule.disabled -}}
{{- $names := list -}}
{{- $groups := list -}}
{{- $thresholds := dict "namespace_release:entityclip_llm_budget_usd_per_hour:constant" (toString .Values.prometheusRule.llmBudgetUsdPerHour) "namespace_release:entityclip_worker_memory_limit_bytes:constant" (include "entityclip.bytes" .Values.resources.limits.memory) -}}
{{- range (.Files.Get "files/rules.yaml" | fromYaml).groups -}}
{{- $rules := list -}}
{{- range .rules -}}
{{- if .alert -}}
{{- $names = append $names .alert -}}
{{- if not (has .alert $disabled) -}}
{{- $url := printf "%s%s" (default "" $.Values.prometheusRule.runbookBaseUrl) .annotations.runbook_url -}}
{{- $rules = append $rules (merge (dict "annotations" (dict "runbook_url" $url)) . (dict "labels" $.Values.prometheusRule.alertLabels)) -}}
{{- end -}}
{{- else -}}
{{- $number := get $thresholds .record -}}
{{- $expression := ternary (printf "%s * max by (namespace, release) (entityclip_build_info)" $number) .expr (ne $number "") -}}
{{- $rules = append $rules (merge (dict "expr" $expression) .) -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (merge (dict "rules" $rules) .) -}}
{{- end -}}
{{- end -}}
{{- range $disabled -}}
{{- if not (has . $names) -}}
{{- fail (printf "prometheusRule.disabled: there is no alert %s" .) -}}
{{- end -}}
{{- end -}}
{{ toYaml $groups }}
{{- end -}}
