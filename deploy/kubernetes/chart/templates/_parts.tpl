{{- define "authz.image" -}}
{{ .repository }}:{{ .tag | default .version }}
{{- end }}

{{- define "authz.labels" -}}
app.kubernetes.io/name: authz
app.kubernetes.io/instance: {{ .root.Release.Name }}
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

{{- define "authz.storesEnv" -}}
# Secrets are files: they do not appear in the pod's description, and a changed PostgreSQL URL needs no restart.
- {name: AUTHZ_POLICY_FILE, value: /etc/authz/policy/policy.yaml}
- {name: AUTHZ_REDIS_URL_FILE, value: /etc/authz/stores/redis-url}
- {name: AUTHZ_POSTGRES_URL_FILE, value: /etc/authz/stores/postgres-url}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{- define "authz.storesMounts" -}}
# Folders, not single files: a file mounted by subPath never changes.
- {name: authz-policy, mountPath: /etc/authz/policy, readOnly: true}
- {name: authz-stores, mountPath: /etc/authz/stores, readOnly: true}
- {name: authz-stores-ca, mountPath: /etc/authz/stores-ca, readOnly: true}
{{- end }}

{{- define "authz.storesVolumes" -}}
- name: authz-policy
  configMap: {name: authz-policy}
- name: authz-stores
  secret: {secretName: {{ .Values.stores.secretName }}}
- name: authz-stores-ca
  secret: {secretName: {{ .Values.stores.caSecretName }}, optional: true}
{{- end }}

{{- define "authz.probes" -}}
# Started: the process answers; a start takes one to two seconds, also on a busy node.
startupProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 1
  failureThreshold: 30
# Ready: both stores were reachable once, and no drain is under way. It does not go back when a store fails later: all pods
# would leave the Service at once, and a 503 from authz says more than no connection.
readinessProbe:
  httpGet: {path: /readyz, port: {{ . }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
# Alive: the event loop answers. It asks no store, since a restart mends none.
livenessProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{- define "authz.serve" -}}
image: {{ include "authz.image" (dict "repository" .Values.image.repository "tag" .Values.image.tag "version" .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve]
{{ include "authz.probes" "authz-admin" }}
resources:
  # One process on one thread of Python: more than one CPU is never used. There is no CPU limit: a throttled process stops
  # for up to a tenth of a second, half of Envoy's timeout for a check.
  requests: {cpu: {{ .Values.resources.cpu }}, memory: {{ .Values.resources.memory }}}
  # docs/kubernetes.md says what the memory is made of.
  limits: {memory: {{ .Values.resources.memory }}}
securityContext:
  {{- include "authz.security" . | nindent 2 }}
{{- end }}

{{- define "authz.dns" -}}
- ports:
  - {protocol: UDP, port: 53}
  - {protocol: TCP, port: 53}
- ports:
  {{- range .Values.stores.ports }}
  - {protocol: TCP, port: {{ . }}}
  {{- end }}
{{- end }}
