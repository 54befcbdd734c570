#!/usr/bin/env bash
# The model that ships as src/syncl/models/any-rig.safetensors: tools/evidence/any_rig_model.sh WORK
#
# From the model demo on (tools/evidence/demo_model.sh), on rigs of three to eight cameras. One core, one thread,
# seed 3; about an hour. A run that was stopped goes on: start the script again. Of the file that ships, stage 1 was
# ended at step 2250 of its 3000 (src/syncl/models/CARD-any-rig.md).
set -euo pipefail
work=${1:?where runs and worlds go}
mkdir -p "$work"

train() { # name, start, further settings
    local run=$work/$1 init=$2 start=(--overwrite)
    shift 2
    [ -e "$run/model.safetensors" ] && return
    if compgen -G "$run/checkpoints/step_*" > /dev/null; then start=(--resume); fi
    syncl train mutr3d_detr3d_synthetic_any_rig --data "$work/rigs" --version v1.0-trainval --output "$run" \
        --threads 1 "${start[@]}" --init "$init" --cache-features "$work/features" --set training.seed=3 "$@"
}

# A rig of its own for each of 200 scenes: other lenses, places, heights and image shapes, cameras that fall silent.
[ -e "$work/rigs/world.json" ] ||
    syncl generate "$work/rigs" --train-scenes "${SCENES:-200}" --val-scenes 0 --keyframes 20 --seed 111 --rigs

# 1. Single frames of eight rigs a step: cameras share the mean of the demo's weights, and learn to look through
# any lens. The image encoder stays, its features are stored (8 GB).
train frames demo training.data.sampling=clips training.data.clip_length=1 training.data.batch_size=8 \
    training.steps="${FRAME_STEPS:-3000}"

# 2. Streams of whole scenes, as the demo was trained.
train any-rig "$work/frames/model.safetensors" training.steps="${STEPS:-1100}"

echo "$work/any-rig/model.safetensors"
