{{- /* Refuses values that contradict one another, which the schema cannot see. */}}
{{- define "authz.checks" -}}
{{- $app := .Values.sidecar.app }}
{{- if and (eq .Values.mode "standalone") (lt (int .Values.standalone.replicasMax) (int .Values.standalone.replicas)) }}
{{- fail (printf "standalone.replicasMax (%v) is less than standalone.replicas (%v)" .Values.standalone.replicasMax .Values.standalone.replicas) }}
{{- end }}
{{- /* Twice in a container, the last one would count, and server-side apply would refuse it. */}}
{{- $own := dict "AUTHZ_DRAIN_DELAY_S" "drain.delaySeconds" "AUTHZ_DRAIN_GRACE_S" "drain.graceSeconds" "AUTHZ_CHECK_PLAIN_TEXT" "standalone.tls" "AUTHZ_CHECK_CLIENT_NAMES" "standalone.tls.clientNames" "AUTHZ_MAIL_FROM" "portal.mailFrom" "AUTHZ_MAIL_NOTICES" "portal.mailNotices" }}
{{- range $name, $value := $own }}
{{- if hasKey $.Values.env $name }}
{{- fail (printf "env.%s is the value %s" $name $value) }}
{{- end }}
{{- end }}
{{- $bytes := 0 }}
{{- range $name, $text := merge (dict "policy.yaml" (include "authz.policyText" .)) (.Values.policy.files | default dict) }}
{{- $bytes = add $bytes (len $text) }}
{{- end }}
{{- if gt $bytes 1000000 }}
{{- fail (printf "policy.text and policy.files have %d bytes; a ConfigMap holds 1000000" $bytes) }}
{{- end }}
{{- if and .Values.policy.files (not .Values.policy.text) }}
{{- fail "policy.files needs policy.text, which includes them" }}
{{- end }}
{{- if eq .Values.mode "sidecar" }}
{{- $taken := dict "sidecar.port" .Values.sidecar.port "sidecar.app.port" $app.port }}
{{- range $name, $port := $taken }}
{{- if has (int $port) (list 9090 9901) }}
{{- fail (printf "%s is %v, a port of authz (9090) or Envoy (9901) in the pod" $name $port) }}
{{- end }}
{{- end }}
{{- if eq (int .Values.sidecar.port) (int $app.port) }}
{{- fail (printf "sidecar.port and sidecar.app.port are both %v" $app.port) }}
{{- end }}
{{- if $app.name }}
{{- if regexMatch "^authz(-|$)" $app.name }}
{{- fail (printf "sidecar.app.name is %s, as names of the chart begin" $app.name) }}
{{- end }}
{{- include "authz.checkPod" $app.pod }}
{{- end }}
{{- end }}
{{- end }}

{{- define "authz.checkPod" -}}
{{- if not .containers }}
{{- fail "sidecar.app.pod.containers is empty" }}
{{- end }}
{{- range concat .containers (.initContainers | default list) }}
{{- if has .name (list "authz" "envoy") }}
{{- fail (printf "sidecar.app.pod has a container named %s, as one of the sidecars" .name) }}
{{- end }}
{{- end }}
{{- range .volumes }}
{{- if has .name (list "authz-policy" "authz-stores" "authz-stores-ca" "authz-admin-tls" "authz-envoy" "authz-socket" "authz-no-token") }}
{{- fail (printf "sidecar.app.pod has a volume named %s, as one of the sidecars" .name) }}
{{- end }}
{{- end }}
{{- if .hostNetwork }}
{{- fail "sidecar.app.pod.hostNetwork: NetworkPolicies do not hold there, and the application's own port would be open" }}
{{- end }}
{{- range $shared := list "hostPID" "shareProcessNamespace" }}
{{- if index $ $shared }}
{{- fail (printf "sidecar.app.pod.%s: an application with the user of authz could read its files" $shared) }}
{{- end }}
{{- end }}
{{- if hasKey . "terminationGracePeriodSeconds" }}
{{- fail "sidecar.app.pod.terminationGracePeriodSeconds follows from drain and sidecar.app.stopSeconds" }}
{{- end }}
{{- end }}
