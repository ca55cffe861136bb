{{- define "authz.image" -}}
{{- if .image.digest -}}
{{ printf "%s@%s" .image.repository .image.digest | quote }}
{{- else -}}
{{ printf "%s:%s" .image.repository (.image.tag | default .version) | quote }}
{{- end -}}
{{- end }}

{{- /* Quoted: 1e3 is the name of a release, too. */}}
{{- define "authz.labels" -}}
app.kubernetes.io/name: authz
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "authz.security" -}}
# Pod Security "restricted", and a root that nobody writes to.
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "authz.policyText" -}}
{{ .Values.policy.text | default (.Files.Get "files/policy.yaml") }}
{{- end }}

{{- define "authz.policyFiles" -}}
{{- toYaml (merge (dict "policy.yaml" (include "authz.policyText" .)) (.Values.policy.files | default dict)) }}
{{- end }}

{{- /* Of one file, as `sha256sum` prints it; of several, that of what `sha256sum` prints for all of them, in order of their names. */}}
{{- define "authz.policyHash" -}}
{{- if .Values.policy.files }}
{{- $lines := "" }}
{{- range $name, $text := merge (dict "policy.yaml" (include "authz.policyText" .)) .Values.policy.files }}
{{- $lines = printf "%s%s  %s\n" $lines (sha256sum $text) $name }}
{{- end }}
{{- sha256sum $lines }}
{{- else }}
{{- include "authz.policyText" . | sha256sum }}
{{- end }}
{{- end }}

{{- define "authz.storesEnv" -}}
# Secrets are files: they do not appear in the pod's description, and a changed PostgreSQL URL needs no restart.
- {name: AUTHZ_POLICY_FILE, value: /etc/authz/policy/policy.yaml}
- {name: AUTHZ_REDIS_URL_FILE, value: /etc/authz/stores/redis-url}
- {name: AUTHZ_POSTGRES_URL_FILE, value: /etc/authz/stores/postgres-url}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}}
{{- end }}
{{- end }}

{{- define "authz.storesMounts" -}}
# Folders, not single files: a file mounted by subPath never changes.
- {name: authz-policy, mountPath: /etc/authz/policy, readOnly: true}
- {name: authz-stores, mountPath: /etc/authz/stores, readOnly: true}
- {name: authz-stores-ca, mountPath: /etc/authz/stores-ca, readOnly: true}
{{- if (.Values.adminTls).secretName }}
- {name: authz-admin-tls, mountPath: /etc/authz/admin-tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "authz.adminEnv" -}}
{{- if (.root.Values.adminTls).secretName -}}
# Without a CA for clients: a kubelet has no certificate, so that no probe would succeed.
- {name: {{ .prefix }}_CERTIFICATE_FILE, value: /etc/authz/admin-tls/tls.crt}
- {name: {{ .prefix }}_KEY_FILE, value: /etc/authz/admin-tls/tls.key}
{{- end }}
{{- end }}

{{- define "authz.storesVolumes" -}}
- name: authz-policy
  configMap: {name: authz-policy}
- name: authz-stores
  secret: {secretName: {{ .Values.stores.secretName | quote }}}
- name: authz-stores-ca
  secret: {secretName: {{ .Values.stores.caSecretName | quote }}, optional: true}
{{- with (.Values.adminTls).secretName }}
- name: authz-admin-tls
  secret: {secretName: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "authz.pods" -}}
{{- /* What a site adds to every pod of authz' own: where it runs, and for how much it counts. */}}
{{- range $name := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with index ($.Values.pods | default dict) $name }}
{{ $name }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "authz.podMetadata" -}}
{{- /* Labels of a site never replace those that the selectors have. */}}
labels:
  {{- merge (fromYaml .labels) ((.root.Values.pods).labels | default dict) | toYaml | nindent 2 }}
{{- $annotations := merge (.rolls | ternary (dict "authz/policy-sha256" (include "authz.policyHash" .root)) dict) ((.root.Values.pods).annotations | default dict) }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "authz.probes" -}}
{{- $scheme := (.root.Values.adminTls).secretName | empty | ternary "" ", scheme: HTTPS" -}}
# Started: the process answers; a start takes one to two seconds, also on a busy node.
startupProbe:
  httpGet: {path: /healthz, port: {{ .port }}{{ $scheme }}}
  periodSeconds: 1
  failureThreshold: 30
# Ready: both stores were reachable once, and no drain is under way. It does not go back when a store fails later: all pods
# would leave the Service at once, and a 503 from authz says more than no connection.
readinessProbe:
  httpGet: {path: /readyz, port: {{ .port }}{{ $scheme }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
# Alive: the event loop answers. It asks no store, since a restart mends none.
livenessProbe:
  httpGet: {path: /healthz, port: {{ .port }}{{ $scheme }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{- define "authz.limits" -}}
{ {{- with .root.Values.cpuLimit }}cpu: {{ . | quote }}, {{ end }}memory: {{ .memory }}}
{{- end }}

{{- define "authz.serve" -}}
image: {{ include "authz.image" (dict "image" .Values.image "version" .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve]
{{ include "authz.probes" (dict "root" . "port" "authz-admin") }}
resources:
  # One process on one thread of Python: more than one CPU is never used. There is no CPU limit: a throttled process stops
  # for up to a tenth of a second, half of Envoy's timeout for a check.
  requests: {cpu: {{ .Values.resources.cpu | quote }}, memory: {{ .Values.resources.memory }}}
  # docs/kubernetes.md says what the memory is made of.
  limits: {{ include "authz.limits" (dict "root" . "memory" .Values.resources.memory) }}
securityContext:
  {{- include "authz.security" . | nindent 2 }}
{{- end }}

{{- define "authz.dns" -}}
- ports:
  {{- range (.Values.network).dnsPorts | default (list 53) }}
  - {protocol: UDP, port: {{ . }}}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
- ports:
  {{- range concat .Values.stores.ports ((.Values.network).egressPorts | default list) }}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
{{- end }}
