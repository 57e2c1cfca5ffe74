#!/bin/bash
# Builds images that stand in for the official ones where no registry of images can be reached, only package registries:
#
#   stand-in/python:3.13-slim-trixie   Debian with its Python, by debootstrap (needs root)
#   stand-in/postgres:17               Debian's PostgreSQL
#   stand-in/kafka:4.4.0               Apache Kafka from Maven's artefacts on Debian's Java
#
# The tests use them when the official ones are not there. Needs a Docker engine with buildx, debootstrap and Maven.
set -euo pipefail
cd "$(dirname "$0")"
scratch=$(mktemp --directory)
trap 'rm -rf "$scratch"' EXIT
python=stand-in/python:3.13-slim-trixie

if ! docker image inspect "$python" > /dev/null 2>&1; then
    packages=python3,python3-venv,python3-pip,python-is-python3,ca-certificates
    debootstrap --variant=minbase --include="$packages" trixie "$scratch/root"
    tar --directory "$scratch/root" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists --create . \
        | docker import --change 'CMD ["python3"]' - "$python"
fi
docker build --network=host --build-arg BASE="$python" --tag stand-in/postgres:17 postgres

mkdir "$scratch/kafka"
cp kafka/Dockerfile kafka/start.sh "$scratch/kafka"
jars=$("${PYTHON:-../../.venv/bin/python}" -c 'from runtide_deploy.apache_kafka import resolve_class_path; print(resolve_class_path().removesuffix("/*"))')
cp -R "$jars" "$scratch/kafka/jars"
docker build --network=host --build-arg BASE="$python" --tag stand-in/kafka:4.4.0 "$scratch/kafka"
