#!/bin/sh
# What Sightline adds on one GPU, in at most eight minutes; each part writes its JSON, and one that fails stops no other.
#
#     sh benchmarks/gpu.sh OUT                 on a GPU, 32 layers of 7B geometry
#     sh benchmarks/gpu.sh OUT cpu small       the same parts on a processor and as small as they get, to try the script
set -u
out=${1:?give a folder for the results} device=${2:-cuda} size=${3:-whole}
here=$(dirname "$0")
python=${PYTHON:-python}
mkdir -p "$out"

part() { # name, seconds, script, options
    name=$1 seconds=$2 script=$3
    shift 3
    if timeout "$seconds" "$python" "$here/$script.py" --device "$device" "$@" --out "$out/$name.json" >"$out/$name.log" 2>&1; then
        echo "$name: $out/$name.json"
    else
        echo "$name: failed or took over $seconds s, see $out/$name.log"
    fi
}

if [ "$size" = small ]; then
    part token_cost 120 token_cost --rounds 1 --few 4 --many 8 --specs dominance vaf
    part dominance 120 dominance_speed --dtype float32 --layers 1 --lengths 80 --rounds 1 --without-eager
    part steering 120 steering_speed --layers 1 --hidden-size 256 --tower-layers 1 --new-tokens 2 --rounds 1 --methods vaf vcd
    part grounding 120 grounding_speed --layers 1 --hidden 256 --length 80 --rounds 1
    part impact 120 impact_speed --layers 2 --hidden-size 256 --length 80 --rounds 1 --edges 1
    exit
fi
part token_cost 100 token_cost --rounds 5
part dominance 100 dominance_speed --layers 32 --lengths 640 2880 --rounds 3 --samples 100 --without-eager
part dominance_4bit 70 dominance_speed --layers 32 --lengths 640 --rounds 3 --samples 100 --without-eager --quantize 4bit
part steering 100 steering_speed --dtype bfloat16 --layers 32 --tower-layers 24 --rounds 2
part grounding 50 grounding_speed --dtype bfloat16 --layers 4 --rounds 3
part impact 60 impact_speed --dtype bfloat16 --layers 32 --rounds 1 --edges 1
