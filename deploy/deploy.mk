# The targets of deploy/: the image and the manifests.

.PHONY: image image-report image-scan gateways manifests manifests-write apiserver pods pods-rolling test-containers

.venv/tools/%/.installed: deploy/tools/%.txt $(STAMP)
	$(PYTHON) -m venv --clear .venv/tools/$*
	.venv/tools/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

image: .venv/tools/image/.installed ## build the images with docker, podman or buildah (BUILDER=, BASE=, OFFLINE=1): docs/kubernetes.md
	PYTHON=$(PYTHON) deploy/image/wheelhouse
	deploy/image/build
	@if command -v podman > /dev/null; then $(BIN)/python deploy/image/report.py; else echo "no podman, no report"; fi

image-scan: .venv/tools/image/.installed ## known vulnerabilities of the image's packages; needs the network or ADVISORIES=, and grype or trivy for Debian's
	deploy/image/scan

image-report: ## what the image holds, its size, and its time to readiness
	$(BIN)/python deploy/image/report.py

manifests-write: .venv/tools/manifests/.installed ## write the kustomize files from the Helm chart
	$(BIN)/python deploy/kubernetes/generate.py

manifests: .venv/tools/manifests/.installed ## kustomize and Helm say the same; schemas, checkov, hadolint
	$(BIN)/python -m pytest deploy/tests/manifests deploy/tests/gateways --timeout=120

gateways: ## translate the recipes for Envoy Gateway and Istio again with their own tools (the first time builds them: up to an hour, needs Go)
	deploy/tests/gateways/translate

apiserver: build/apiserver/kube-apiserver build/gateways/contour .venv/tools/manifests/.installed ## a real kube-apiserver judges the manifests, and Contour its recipe (the first time builds both: 40 minutes, needs Go and etcd)
	$(BIN)/python -m pytest deploy/tests/apiserver --timeout=300

build/apiserver/kube-apiserver:
	command -v etcd > /dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends etcd-server; }
	deploy/tests/apiserver/build

build/gateways/contour:
	GOBIN=$(CURDIR)/build/gateways GOTOOLCHAIN=$${GOTOOLCHAIN:-go1.27.3} nice go install github.com/projectcontour/contour/cmd/contour@v1.33.8

test-containers: install programs ## stores in containers, and the image between Envoy and them; with Docker, or podman's service (needs make image)
	deploy/tests/containers/build
	deploy/tests/containers/run

pods: .venv/tools/manifests/.installed ## the sidecar manifest as real containers (podman, runc): rolling updates under load, limits, crashes, a walk
	deploy/tests/containers/build
	$(BIN)/python -m pytest deploy/tests/pods -s --timeout=900

pods-rolling: .venv/tools/manifests/.installed ## rolling updates of the pod at 300 requests/s, a line for each (ROUNDS=20, DEADLINES=long)
	$(BIN)/python -m pytest deploy/tests/pods/test_rolling.py -s --timeout=1800
