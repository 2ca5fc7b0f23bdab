{{/* A quantity of Kubernetes in PromQL: 4Gi is 4 * 1024 ^ 3. */}}
{{- define "entityclip.bytes" -}}
{{- $text := toJson . | trimAll "\"" -}}
{{- $number := regexFind "^[0-9.]+" $text -}}
{{- $powers := dict "m" -1 "k" 1 "K" 1 "M" 2 "G" 3 "T" 4 "P" 5 "E" 6 -}}
{{- $unit := regexFind "[a-zA-Z]+$" $text -}}
{{- if $unit -}}
{{- printf "%s * %d ^ %d" $number (ternary 1024 1000 (hasSuffix "i" $unit)) (get $powers (trunc 1 $unit)) -}}
{{- else -}}
{{- $number -}}
{{- end -}}
{{- end -}}

{{/* The groups of files/rules.yaml without the alerts that are disabled, with the labels that every alert gets and
the thresholds and the place of the runbook that the values name. Two groups ask for this release alone, as far as
the service monitor labels its workers so; the others are for all releases, and one of them brings them. */}}
{{- define "entityclip.ruleGroups" -}}
{{- $disabled := .Values.prometheusRule.disabled -}}
{{- $names := list -}}
{{- $groups := list -}}
{{- $thresholds := dict "namespace_release:entityclip_llm_budget_usd_per_hour:constant" (toString .Values.prometheusRule.llmBudgetUsdPerHour) "namespace_release:entityclip_worker_memory_limit_bytes:constant" (include "entityclip.bytes" .Values.resources.limits.memory) -}}
{{- $ours := ternary (printf "namespace=%q, release=%q" .Release.Namespace .Release.Name) "" .Values.serviceMonitor.enabled -}}
{{- range (.Files.Get "files/rules.yaml" | fromYaml).groups -}}
{{- $isOwn := has .name (list "entityclip-thresholds" "entityclip-presence") -}}
{{- $rules := list -}}
{{- range .rules -}}
{{- if .alert -}}
{{- $names = append $names .alert -}}
{{- if and (not (has .alert $disabled)) (or $isOwn $.Values.prometheusRule.shared) -}}
{{- $url := printf "%s%s" (default "" $.Values.prometheusRule.runbookBaseUrl) .annotations.runbook_url -}}
{{- $expression := .expr -}}
{{- if and $isOwn $ours -}}
{{- $expression = replace "{job=\"entityclip\"}" (printf "{job=\"entityclip\", %s}" $ours) .expr -}}
{{- end -}}
{{- $rules = append $rules (merge (dict "expr" $expression "annotations" (dict "runbook_url" $url)) . (dict "labels" $.Values.prometheusRule.alertLabels)) -}}
{{- end -}}
{{- else if $isOwn -}}
{{- $workers := ternary (printf "entityclip_build_info{%s}" $ours) "entityclip_build_info" (ne $ours "") -}}
{{- $expression := printf "%s * max by (namespace, release) (%s)" (get $thresholds .record) $workers -}}
{{- $rules = append $rules (merge (dict "expr" $expression) .) -}}
{{- else if $.Values.prometheusRule.shared -}}
{{- $rules = append $rules . -}}
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
