# progan in a container, for training and for the page that makes pictures (docs/submitting.md):
#
#   docker build --tag progan:cpu .
#   docker build --tag progan:cuda --build-arg BASE=pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime .
#   docker run --rm --gpus all --volume "$PWD:/work" progan:cuda train folder128 --data photos --out runs/photos
#   docker run --rm --publish 8000:8000 --volume "$PWD:/work" progan:cpu app runs/photos --host 0.0.0.0 --port 8000
#
# BASE has Python, and PyTorch if it is to come from there; else PyTorch is installed, from TORCH_INDEX if that is given
# (the address of the CPU's wheels, which are much smaller, is on PyTorch's own page).

ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}

# A compiler for compiled steps, which Triton needs on GPUs as well. Its version is the base's.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

# PyTorch first: the largest layer, which changes least. The range is that of pyproject.toml.
ARG TORCH="torch>=2.9,<2.14"
ARG TORCH_INDEX
ENV PIP_NO_CACHE_DIR=1 PIP_BREAK_SYSTEM_PACKAGES=1
# hadolint ignore=DL3013
RUN python -m pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "${TORCH}"

ARG EXTRAS=lmdb,parquet,cloud,heic,hdf5,tiff,video,export,app
COPY pyproject.toml README.md LICENSE /progan/
COPY src /progan/src
# hadolint ignore=DL3013
RUN python -m pip install "/progan[${EXTRAS}]"

# No root; files in /work are those of whoever runs the container with `--user "$(id -u):$(id -g)"`.
ENV HOME=/tmp USER=progan PROGAN_CACHE=/tmp/progan PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /work

# No shell between, so that SIGTERM reaches progan, which saves and stops.
ENTRYPOINT ["python", "-m", "progan"]
CMD ["doctor"]
