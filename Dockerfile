# syntax=docker/dockerfile:1
# The serving image, without PyTorch:   docker build --target cpu -t marserve .      (or --target gpu)
#   docker run --rm -p 127.0.0.1:8080:8080 -p 127.0.0.1:7070:7070 marserve           (gpu: add --gpus all)
# Mount your own archives over /app/model_store. Management stays on the container's loopback.

FROM python:3.12-slim-bookworm AS build
WORKDIR /app
RUN python -m venv .venv
COPY requirements/ requirements/

FROM build AS build-cpu
RUN .venv/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/serve.txt
COPY . source/
RUN .venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation ./source \
 && .venv/bin/python -m pip uninstall --yes pip

# CUDA and cuDNN come from PyPI with onnxruntime-gpu: no CUDA base image, only the host's driver.
FROM build AS build-gpu
RUN .venv/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/serve-gpu.txt
COPY . source/
RUN .venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation ./source \
 && .venv/bin/python -m pip uninstall --yes pip

FROM python:3.12-slim-bookworm AS runtime
RUN useradd --system --uid 10001 --create-home marserve
WORKDIR /app
COPY model_store/*.mar model_store/
COPY config.properties .
# A container's loopback is its own: predictions and metrics must listen on its network, management must not.
RUN sed -i -E 's#^(inference|metrics)_address=http://127.0.0.1#\1_address=http://0.0.0.0#; \
               s#^grpc_inference_address=.*#grpc_inference_address=0.0.0.0#' config.properties
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
USER marserve
EXPOSE 8080 8082 7070
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8082/health', timeout=2)"]
ENTRYPOINT ["marserve", "serve"]

FROM runtime AS gpu
COPY --from=build-gpu /app/.venv /app/.venv

FROM runtime AS cpu
COPY --from=build-cpu /app/.venv /app/.venv
