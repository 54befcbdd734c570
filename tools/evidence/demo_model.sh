#!/usr/bin/env bash
# The model that ships as src/syncl/models/demo.safetensors, trained the straight way: tools/evidence/demo_model.sh WORK
#
# One core, one thread, seeds 0, 0, 0 and 1; about five hours. A run that was stopped goes on: start the script again.
# The file that ships came to its encoder by another way (src/syncl/models/CARD.md); stages 2 to 4 are its own.
set -euo pipefail
work=${1:?where runs and worlds go}
mkdir -p "$work"

train() { # name, recipe, further options
    local run=$work/$1 recipe=$2 start=()
    shift 2
    [ -e "$run/model.safetensors" ] && return
    if compgen -G "$run/checkpoints/step_*" > /dev/null; then start=(--resume); else start=(--overwrite); fi
    syncl train "$recipe" --data "$work/world11" --version v1.0-trainval --output "$run" --threads 1 "${start[@]}" "$@"
}

[ -e "$work/world11/world.json" ] ||
    syncl generate "$work/world11" --train-scenes 700 --val-scenes 0 --keyframes 20 --seed 11

# 1. The encoder, with the aids without which detection does not get off the ground: 48,000 frames.
train encoder detr3d_synthetic --set training.steps=12000 training.data.batch_size=4

# 2. Learned queries alone on the frozen encoder, whose features are stored (19 GB): 100,000 frames.
train detector detr3d_synthetic_plain --init "$work/encoder/model.safetensors" --cache-features "$work/features" \
    --init-parts detector.image_encoder detector.layers detector.class_branches

# 3. The tracker, on streams of whole scenes: 48,000 frames.
train tracker "${RECIPE:-mutr3d_detr3d_synthetic_plain}" --init "$work/detector/model.safetensors" \
    --cache-features "$work/features"

# 4. The same again at half the learning rate: 52,000 frames, in other streams.
train demo "${RECIPE:-mutr3d_detr3d_synthetic_plain}" --init "$work/tracker/model.safetensors" \
    --cache-features "$work/features" \
    --set training.steps=3250 training.optimiser.learning_rate=2e-4 training.seed=1

echo "$work/demo/model.safetensors"
