# One image for front-ends (`serve`, the default) and workers (`worker`).
#
#   docker build -t broadcaster .
#   docker run -e BROADCASTER_REDIS_URL=… -e BROADCASTER_AUTH=keys -e BROADCASTER_API_KEYS=… -e BROADCASTER_HOST=0.0.0.0 broadcaster
#
# Both stages are the Python that the tests run on. Pinned by tag: a digest would stop the base's security updates, and
# tests/deploy replays every RUN line against the same pins. For builds that must be repeatable bit by bit, add it:
# python:3.11-slim-bookworm@sha256:…

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all:
WORKDIR /build
# pip and the build backend stay in this stage: the environment that is shipped has neither.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /opt/build && /opt/build/bin/pip install --quiet --require-hashes -r requirements/build.txt
# For three files of ours (hatch_build.py); all else is wheels (PIP_ONLY_BINARY). Nothing of it is shipped.
# hadolint ignore=DL3008,DL3009
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends gcc libc6-dev
RUN python -m venv --without-pip /opt/broadcaster \
    && /opt/build/bin/pip --python /opt/broadcaster install --quiet --require-hashes -r requirements/runtime.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY broadcaster broadcaster
COPY worker worker
# The console loads the JavaScript client.
COPY clients/js/src clients/js/src
RUN BUILD_C=required /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/broadcaster install --quiet --no-deps --no-index dist/*.whl

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="broadcaster" \
    org.opencontainers.image.description="LLM answers that outlive the request" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/broadcaster /opt/broadcaster
# Nothing is written to the disk: the root may be read-only. HOME is there for libraries that look for one.
ENV PATH=/opt/broadcaster/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp BROADCASTER_PORT=8000
# A number, so that Kubernetes can tell that it is not root; nobody in /etc/passwd has it.
USER 10001:10001
EXPOSE 8000
# What `serve` and `worker` drain on; see docs/deployment.md for how long to wait before they are killed.
STOPSIGNAL SIGTERM
# For front-ends; a worker listens to nobody (docker run --no-healthcheck): when it dies, others take its answers over.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as request; request.urlopen(f'http://127.0.0.1:{os.environ[\"BROADCASTER_PORT\"]}/healthz', timeout=2)"]
ENTRYPOINT ["broadcaster"]
CMD ["serve"]
