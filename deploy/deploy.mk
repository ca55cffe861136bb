# The targets of deploy/: the image and the manifests.

.PHONY: image image-report manifests manifests-write apiserver pods

.venv/tools/%/.installed: deploy/tools/%.txt $(STAMP)
	$(PYTHON) -m venv --clear .venv/tools/$*
	.venv/tools/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

image: .venv/tools/image/.installed ## build the images with docker, podman or buildah (BUILDER=, BASE=, OFFLINE=1): docs/kubernetes.md
	PYTHON=$(PYTHON) deploy/image/wheelhouse
	deploy/image/build

image-report: ## what the image holds, its size, and its time to readiness
	$(BIN)/python deploy/image/report.py

manifests-write: .venv/tools/manifests/.installed ## write the kustomize files from the Helm chart
	$(BIN)/python deploy/kubernetes/generate.py

manifests: .venv/tools/manifests/.installed ## kustomize and Helm say the same; schemas, checkov, hadolint
	$(BIN)/python -m pytest deploy/tests/manifests --timeout=120

apiserver: build/apiserver/kube-apiserver .venv/tools/manifests/.installed ## a real kube-apiserver judges the manifests (the first time builds it: 20 minutes, needs Go and etcd)
	$(BIN)/python -m pytest deploy/tests/apiserver --timeout=300

build/apiserver/kube-apiserver:
	command -v etcd > /dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends etcd-server; }
	deploy/tests/apiserver/build

pods: .venv/tools/manifests/.installed ## the sidecar manifest as real containers (podman, runc): rolling updates under load, limits, crashes
	$(BIN)/python -m pytest deploy/tests/pods -s --timeout=900
