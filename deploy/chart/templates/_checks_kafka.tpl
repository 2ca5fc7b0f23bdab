{{- define "entityclip.checkKafka" -}}
{{- $kafka := .Values.config.kafka -}}
{{- $protocol := default "PLAINTEXT" $kafka.security_protocol -}}
{{- if and .Values.kafkaTls.secretName (or $kafka.ssl_ca_file $kafka.ssl_cert_file $kafka.ssl_key_file) -}}
{{- fail "kafkaTls.secretName and config.kafka.ssl_*_file name the same thing: set one of them" -}}
{{- end -}}
{{- if and .Values.kafkaTls.secretName (not (hasSuffix "SSL" $protocol)) -}}
{{- fail "kafkaTls.secretName needs config.kafka.security_protocol SSL or SASL_SSL" -}}
{{- end -}}
{{- if ne (empty .Values.kafkaTls.cert) (empty .Values.kafkaTls.key) -}}
{{- fail "kafkaTls.cert and kafkaTls.key belong together: set both, or neither" -}}
{{- end -}}
{{- if hasPrefix "SASL" $protocol -}}
{{- if not $kafka.sasl_mechanism -}}
{{- fail "config.kafka.security_protocol is one with SASL: set config.kafka.sasl_mechanism" -}}
{{- end -}}
{{- if not (or $kafka.sasl_username (hasKey .Values.secrets "kafka.sasl_username")) -}}
{{- fail (printf "config.kafka.security_protocol is one with SASL: set config.kafka.sasl_username, or %s" (include "entityclip.asSecret" "kafka.sasl_username")) -}}
{{- end -}}
{{- if not (hasKey .Values.secrets "kafka.sasl_password") -}}
{{- fail (printf "config.kafka.security_protocol is one with SASL: %s" (include "entityclip.asSecret" "kafka.sasl_password")) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* KEDA speaks to Kafka by itself, and can do less than the worker. */}}
{{- define "entityclip.checkKeda" -}}
{{- $kafka := .Values.config.kafka -}}
{{- with .Values.autoscaling -}}
{{- if .enabled -}}
{{- if hasSuffix "SSL" (default "PLAINTEXT" $kafka.security_protocol) -}}
{{- if or $kafka.ssl_ca_file $kafka.ssl_cert_file $kafka.ssl_key_file -}}
{{- fail "autoscaling.enabled: KEDA cannot read the files of config.kafka.ssl_*_file: name them by kafkaTls" -}}
{{- end -}}
{{- if eq (toString $kafka.ssl_check_hostname) "false" -}}
{{- fail "autoscaling.enabled: KEDA checks all of a certificate or nothing of it: config.kafka.ssl_check_hostname cannot be false" -}}
{{- end -}}
{{- end -}}
{{- if and (eq (int .minReplicas) 0) (eq (default "earliest" $kafka.auto_offset_reset) "latest") (gt (int .activationLagThreshold) 0) -}}
{{- fail (printf "autoscaling.activationLagThreshold %d with minReplicas 0 and config.kafka.auto_offset_reset latest: a group without commits might never wake; set it to 0, or minReplicas to 1" (int .activationLagThreshold)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The brokers as JSON: [{host, port}, …], with the port that the client takes where none is named. */}}
{{- define "entityclip.brokers" -}}
{{- $brokers := list -}}
{{- range splitList "," .Values.config.kafka.bootstrap_servers -}}
{{- $server := regexReplaceAll "^.*://" (trim .) "" -}}
{{- if $server -}}
{{- $port := regexFind ":[0-9]+$" $server -}}
{{- if gt (len (splitList ":" $server)) 2 -}}
{{- $port = regexFind ":[0-9]+$" (regexFind "\\]:[0-9]+$" $server) -}}
{{- end -}}
{{- $brokers = append $brokers (dict "host" (trimSuffix $port $server) "port" (int (default "9092" (trimPrefix ":" $port)))) -}}
{{- end -}}
{{- end -}}
{{- toJson $brokers -}}
{{- end -}}

{{/* What KEDA, which runs in another namespace, finds them under. */}}
{{- define "entityclip.brokersForKeda" -}}
{{- $servers := list -}}
{{- range fromJsonArray (include "entityclip.brokers" .) -}}
{{- $isName := regexMatch "^[A-Za-z0-9_-]+$" .host -}}
{{- $servers = append $servers (printf "%s%s:%d" .host (ternary (printf ".%s" $.Release.Namespace) "" $isName) (int .port)) -}}
{{- end -}}
{{- join "," $servers -}}
{{- end -}}
