# One image for each build target:
#   dashboard   no torch: the pages
#   slim        no torch: monitor, migrate, topics, ledger, health, export (the default)
#   worker-cpu  the same with torch: worker, calibrate, package, score
#   worker-gpu  the same with torch for NVIDIA GPUs
# Besides the base image a build needs only a package index. Every library is one of the locks', by its hash;
# the CPU build of torch is in no lock and is taken by its version.
ARG PYTHON_IMAGE=python:3.12.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ARG UV_VERSION=0.13.9
# Set these to a mirror of the package index, where there is one.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ENV PATH=/opt/uv/bin:${PATH} \
    VIRTUAL_ENV=/opt/oodwatch \
    UV_CACHE_DIR=/var/cache/uv \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
RUN python -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir "uv==${UV_VERSION}" \
    && python -m venv --without-pip /opt/oodwatch
WORKDIR /src
COPY pyproject.toml requirements.lock requirements-torch.lock ./

# The project alone, made for the environment of the libraries but beside it: a layer of its own, so that new
# code does not move gigabytes.
FROM build AS project
COPY LICENSE README.md ./
COPY dashboard dashboard
COPY pipeline pipeline
RUN --mount=type=cache,target=/var/cache/uv \
    uv pip install --no-deps --build-constraints requirements.lock --prefix /opt/project .

FROM build AS libraries-slim
RUN --mount=type=cache,target=/var/cache/uv \
    uv pip install --require-hashes --constraints requirements.lock --requirements pyproject.toml --extra kafka

FROM libraries-slim AS libraries-dashboard
RUN --mount=type=cache,target=/var/cache/uv \
    uv pip install --require-hashes --constraints requirements.lock --requirements pyproject.toml --extra kafka \
    --extra dashboard --extra parquet

# What a worker needs beside torch and CUDA, which have a lock of their own.
FROM libraries-slim AS libraries-worker
RUN --mount=type=cache,target=/var/cache/uv \
    uv pip compile --quiet --constraints requirements.lock --constraints requirements-torch.lock --extra kafka \
    --extra worker --no-header --no-annotate --output-file all.txt pyproject.toml \
    && sed -n 's/^\([a-z0-9-]*==\).*/^\1/p' requirements-torch.lock > torch.txt \
    && grep --invert-match --file torch.txt all.txt > worker.txt \
    && uv pip install --require-hashes --no-deps --constraints requirements.lock --requirements worker.txt

FROM libraries-worker AS libraries-worker-gpu
RUN --mount=type=cache,target=/var/cache/uv \
    uv pip install --require-hashes --no-deps --requirements requirements-torch.lock

# Where the CPU build is not to be had it takes the one of the lock: gigabytes larger, as good.
FROM libraries-worker AS libraries-worker-cpu
RUN --mount=type=cache,target=/var/cache/uv \
    torch="$(grep --only-matching '^torch==[^ ]*' requirements-torch.lock)" \
    && { UV_HTTP_TIMEOUT=15 UV_HTTP_RETRIES=0 uv pip install --no-deps --torch-backend cpu "${torch}" \
    || uv pip install --require-hashes --no-deps --requirements requirements-torch.lock; }

FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="oodwatch" \
      org.opencontainers.image.description="Watches an image classifier in production" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 oodwatch \
    && useradd --uid 10001 --gid oodwatch --no-create-home --home-dir /var/lib/oodwatch \
    --shell /usr/sbin/nologin oodwatch \
    && install --directory --owner oodwatch --group oodwatch /var/lib/oodwatch
# The root may be read-only: state goes to /var/lib/oodwatch, which SQLite and the spool need and nothing else does.
ENV PATH=/opt/oodwatch/bin:${PATH} \
    OODWATCH_STATE_DIR=/var/lib/oodwatch \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/oodwatch
USER 10001:10001
ENTRYPOINT ["oodwatch"]
CMD ["--help"]

FROM runtime AS worker
EXPOSE 9108
HEALTHCHECK --interval=15s --timeout=5s --start-period=180s --retries=4 CMD ["oodwatch", "health", "--live"]

FROM worker AS worker-cpu
COPY --from=libraries-worker-cpu /opt/oodwatch /opt/oodwatch
COPY --from=project /opt/project /opt/oodwatch

FROM worker AS worker-gpu
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=libraries-worker-gpu /opt/oodwatch /opt/oodwatch
COPY --from=project /opt/project /opt/oodwatch

FROM runtime AS dashboard
EXPOSE 8501
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 CMD ["python", "-c", \
    "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8501, timeout=4); \
    c.request('GET', '/_stcore/health'); raise SystemExit(c.getresponse().status != 200)"]
COPY --from=libraries-dashboard /opt/oodwatch /opt/oodwatch
COPY --from=project /opt/project /opt/oodwatch

FROM runtime AS slim
COPY --from=libraries-slim /opt/oodwatch /opt/oodwatch
COPY --from=project /opt/project /opt/oodwatch
