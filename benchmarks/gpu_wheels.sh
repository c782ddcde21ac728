#!/bin/sh
# Gather what gpu_check.py needs on a machine with Python 3.12, torch 2.11 or newer with CUDA, and no network.
#
#   here:    sh benchmarks/gpu_wheels.sh FOLDER
#   there:   python3 -m pip install --no-index --no-deps --force-reinstall FOLDER/*.whl
#            python3 benchmarks/gpu_check.py
#
# torch, torchvision, numpy, pandas and Pillow must be there already. Versions are the lock's.
set -eu
out=${1:?usage: gpu_wheels.sh FOLDER}
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
mkdir -p "$out"
names="transformers tokenizers huggingface-hub hf-xet safetensors timm accelerate sentencepiece httpx2 httpcore2 truststore \
    python-calamine packaging filelock fsspec regex tqdm pyyaml typer"
pins=""
for name in $names; do
    # The lock's line for Python 3.12, where it has one for some Pythons only the last.
    pin=$(sed -n "s/^\($name==[^ ]*\).*/\1/p" "$here/requirements.lock" | tail -n 1)
    pins="$pins $pin"
done
# shellcheck disable=SC2086
"$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 \
    --abi abi3 --abi none --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform any -d "$out" $pins
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$out" "$here"
du -ch "$out"/*.whl | tail -n 1
