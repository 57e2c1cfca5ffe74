#!/bin/bash
# Runs the tests that need PyTorch, on Debian's CPU build of it: PyPI's wheels for Linux on x86_64 bring several GB of CUDA.
# They run in a Debian of their own below .tools/torch, made the first time by debootstrap (about 3 GB, 10 minutes; needs
# root). Nothing stays mounted: mounts live and die with this script. Arguments go to pytest, instead of the test files.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/.tools/torch
tests=(tests/unit/test_integrations_{lightning,transformers,examples}.py)

if [ "$(id -u)" != 0 ] || ! command -v debootstrap > /dev/null; then
    echo "needs root, and debootstrap (apt-get install debootstrap): without, these tests run wherever torch is installed" >&2
    exit 1
fi

inside() { # run a command in the Debian, with this checkout as /src
    unshare --mount bash -euc '
        root=$1; shift
        mount --bind "$PWD" "$root/src"
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        exec chroot "$root" bash -euc "cd /src; exec \"\$@\"" - "$@"' - "$root" "$@"
}

if [ ! -e "$root/.debian" ]; then
    echo "Making a Debian with PyTorch in $root ..."
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv trixie "$root" > "$root.log"
    mkdir "$root/src"
    DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y -qq --no-install-recommends python3-torch >> "$root.log"
    touch "$root/.debian"
fi
if [ ! "$root/.installed" -nt pyproject.toml ]; then
    # How this machine reaches its package index.
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    if [ -e /etc/pip.conf ]; then cp -L /etc/pip.conf "$root/etc/pip.conf"; fi
    inside python3 -m venv --system-site-packages /opt/venv
    # Pinned, so that pip fails rather than fetch the build with CUDA.
    inside python3 -c 'from importlib.metadata import version as v; print("torch===" + v("torch"))' > "$root/opt/constraints.txt"
    inside /opt/venv/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
    inside /opt/venv/bin/pip install --quiet --disable-pip-version-check --constraint /opt/constraints.txt \
        --editable '.[demo]' --group torch
    touch "$root/.installed"
fi
inside /opt/venv/bin/python -m pytest -m heavy -p no:cacheprovider "${@:-${tests[@]}}"
