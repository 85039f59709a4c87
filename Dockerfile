# syntax=docker/dockerfile:1
# The one image of ELIS: `docker run elis run gateway`. Which target it is decides the argument, as in a pod.

FROM python:3.11-slim AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/elis
COPY requirements.lock ./
RUN /opt/elis/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY kit kit
COPY services services
COPY gateway gateway
COPY protos protos
# A wheel, not an editable install: what the image runs is what a package would hold. The parser of luqum writes its
# tables beside itself when it is first imported, which the user of the image may not.
RUN /opt/elis/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/elis/bin/pip install --no-deps --no-index --find-links /wheels elis \
    && /opt/elis/bin/python -c 'import luqum.parser' \
    && /opt/elis/bin/python -m compileall -q /opt/elis/lib

FROM python:3.11-slim
LABEL org.opencontainers.image.title="ELIS" \
      org.opencontainers.image.description="Engineering Log Intelligence System" \
      org.opencontainers.image.licenses="Apache-2.0"
# The number, not the name: Kubernetes checks runAsNonRoot by number.
RUN groupadd --system --gid 10001 elis \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin elis \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/elis
COPY --from=build /opt/elis /opt/elis
ENV PATH=/opt/elis/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ELIS_BIND_HOST=0.0.0.0 \
    ELIS_DATA_DIR=/var/lib/elis
USER 10001:10001
WORKDIR /tmp
# The ports of kit/targets.py: gateway; auth, ingest, search, correlate; HEC, OTLP over HTTP and gRPC, syslog, syslog over TLS, Fluent.
EXPOSE 8080 50051 50052 50053 50054 8088 4318 4317 5514 5514/udp 6514 24224
STOPSIGNAL SIGTERM
ENTRYPOINT ["elis"]
CMD ["--help"]
