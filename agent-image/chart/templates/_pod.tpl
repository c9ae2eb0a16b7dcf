{{/* Labels of everything of one architecture: dict "root" $ "arch" NAME */}}
{{- define "agent.labels" -}}
app.kubernetes.io/name: mynah-agent
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: agent-{{ .arch }}
{{- end }}

{{- define "agent.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* A pod's template: dict "root" $ "arch" NAME "arguments" LIST "name" AGENT ("" for the pod's own) "restart" POLICY "cache" BOOL */}}
{{- define "agent.pod" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "agent.labels" . | nindent 4 }}
    {{- if eq $values.signIn.kind "workloadIdentity" }}
    azure.workload.identity/use: "true"
    {{- end }}
  annotations:
    # The autoscaler's and the drain's reason to wait for a job instead of moving its pod.
    cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
spec:
  serviceAccountName: {{ .root.Release.Name }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  restartPolicy: {{ .restart }}
  terminationGracePeriodSeconds: {{ add (int $values.drainSeconds) 60 }}
  nodeSelector:
    kubernetes.io/os: linux
    kubernetes.io/arch: {{ .arch }}
    {{- with $values.nodeSelector }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: agent
      image: {{ include "agent.image" .root }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      {{- with .arguments }}
      args:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      env:
        - name: AZP_URL
          valueFrom:
            configMapKeyRef:
              name: azdo-environment-config
              key: AZP_URL
        - name: AZP_POOL
          valueFrom:
            configMapKeyRef:
              name: azdo-environment-config
              key: AZP_POOL
        - name: AZP_AGENT_NAME
          {{- if .name }}
          value: {{ .name }}
          {{- else }}
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
          {{- end }}
        {{- if eq $values.signIn.kind "token" }}
        - name: AZP_TOKEN
          valueFrom:
            secretKeyRef:
              name: {{ $values.signIn.secret }}
              key: AZP_TOKEN
        {{- else if eq $values.signIn.kind "servicePrincipal" }}
        - name: AZP_CLIENTID
          valueFrom:
            configMapKeyRef:
              name: azdo-environment-config
              key: AZP_CLIENTID
        - name: AZP_TENANTID
          valueFrom:
            configMapKeyRef:
              name: azdo-environment-config
              key: AZP_TENANTID
        - name: AZP_CLIENTSECRET
          valueFrom:
            secretKeyRef:
              name: {{ $values.signIn.secret }}
              key: AZP_CLIENTSECRET
        {{- end }}
        - name: MYNAH_AGENT_DRAIN_SECONDS
          value: {{ $values.drainSeconds | quote }}
        - name: XDG_CACHE_HOME
          value: /cache
        - name: AGENT_TOOLSDIRECTORY
          value: /cache/tools
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        privileged: false
        readOnlyRootFilesystem: true
        capabilities:
          drop:
            - ALL
      volumeMounts:
        - name: home
          mountPath: /azp
        - name: work
          mountPath: /azp/_work
        - name: tmp
          mountPath: /tmp
        - name: cache
          mountPath: /cache
  volumes:
    - name: home
      emptyDir:
        sizeLimit: 2Gi
    - name: work
      emptyDir:
        sizeLimit: {{ $values.work.size }}
    - name: tmp
      emptyDir:
        sizeLimit: 2Gi
    - name: cache
      {{- if and .cache $values.cache.enabled }}
      persistentVolumeClaim:
        claimName: {{ .root.Release.Name }}-cache-{{ .arch }}
      {{- else }}
      emptyDir:
        sizeLimit: {{ $values.cache.size }}
      {{- end }}
{{- end }}
