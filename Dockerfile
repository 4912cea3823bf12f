# The service in an image: one stage installs, the other only runs. Nothing is installed when it starts.
#
#   docker build -t llm-agent-core .                                      # with --build-arg MORE="--extra anthropic"
#   docker run -p 8000:8000 -v agents:/data -e ENVIRONMENT=production -e DEBUG=false llm-agent-core
#
# It writes nothing but /data, so `--read-only` works; `--cap-drop ALL --security-opt no-new-privileges` do too.
# With DATABASE_URL and KEY_PEPPER nothing is written there, and `docker run IMAGE llm-agent-core worker` is a worker.
# All of it together, with Postgres and what watches it: deploy/compose.yaml, deploy/kubernetes/.

FROM python:3.12-slim AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PYTHON=/usr/local/bin/python3 \
    UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /srv/llm-agent-core
# what a deployment may need by its settings; the models' packages are its own choice
ARG MORE=""
# dependencies first: they change more seldom than the code, and this layer is kept until they do
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY deploy/build_hook.py deploy/
RUN uv sync --frozen --no-dev --extra postgres --extra oidc --extra otel --extra redis $MORE --no-install-project
# the checkout as it is, so that inside the image, too, the package is `app`
COPY main.py ./
COPY app app
RUN uv sync --frozen --no-dev --extra postgres --extra oidc --extra otel --extra redis $MORE

FROM python:3.12-slim
# numbers, so that an orchestrator can see that it is not root without looking into the image
RUN groupadd --gid 10001 agent \
    && useradd --uid 10001 --gid agent --no-create-home --home-dir /data --shell /usr/sbin/nologin agent \
    && install --directory --owner agent --group agent /data
WORKDIR /srv/llm-agent-core
COPY --from=build /srv/llm-agent-core ./
ENV PATH=/srv/llm-agent-core/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATA_DIR=/data
USER 10001:10001
# the SQLite database, unless DATABASE_URL names another; one container at a time may have it
VOLUME ["/data"]
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/api/v1/health/live', timeout=3)"]
CMD ["python", "main.py"]
