#!/bin/sh
# What Sightline adds on one GPU, in at most eight minutes, as one JSON; see gpu.py.
#
#     benchmarks/gpu.sh --out FILE            on a GPU, 32 layers of 7B geometry
#     benchmarks/gpu.sh --small --out FILE    the same parts as small as they get, on a processor, to try the script
exec "${PYTHON:-python}" "$(dirname "$0")/gpu.py" "$@"
