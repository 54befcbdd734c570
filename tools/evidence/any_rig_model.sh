#!/usr/bin/env bash
# The model that ships as src/syncl/models/any-rig.safetensors: tools/evidence/any_rig_model.sh WORK
#
# From the model demo on (tools/evidence/demo_model.sh), on rigs of three to eight cameras. One core, one thread,
# seeds 3, 4 and 5; about two and a half hours. A run that was stopped goes on: start the script again. Of the file that ships, stage 1 was
# ended at step 2250 of its 3000 (src/syncl/models/CARD-any-rig.md).
set -euo pipefail
work=${1:?where runs and worlds go}
mkdir -p "$work"

train() { # name, world, seed, start, further settings
    local run=$work/$1 world=$work/$2 seed=$3 init=$4 start=(--overwrite)
    shift 4
    [ -e "$run/model.safetensors" ] && return
    if compgen -G "$run/checkpoints/step_*" > /dev/null; then start=(--resume); fi
    syncl train mutr3d_detr3d_synthetic_any_rig --data "$world" --version v1.0-trainval --output "$run" \
        --threads 1 "${start[@]}" --init "$init" --cache-features "$work/features" --set training.seed="$seed" "$@"
}

# A rig of its own for each scene: other lenses, places, heights and image shapes, cameras that fall silent.
generate() { # name, scenes, seed
    [ -e "$work/$1/world.json" ] ||
        syncl generate "$work/$1" --train-scenes "$2" --val-scenes 0 --keyframes 20 --seed "$3" --rigs
}
generate rigs "${SCENES:-200}" 111
generate more-rigs "${MORE_SCENES:-300}" 112

# 1. Single frames of eight rigs a step: cameras share the mean of the demo's weights, and learn to look through
# any lens. The image encoder stays, its features are stored (8 GB).
train frames rigs 3 demo training.data.sampling=clips training.data.clip_length=1 training.data.batch_size=8 \
    training.steps="${FRAME_STEPS:-3000}"

# 2. Streams of whole scenes, as the demo was trained.
train streams rigs 3 "$work/frames/model.safetensors" training.steps="${STEPS:-1100}"

# 3. The same on other rigs (features: 12 GB).
train more-streams more-rigs 4 "$work/streams/model.safetensors" training.steps="${MORE_STEPS:-2000}"

# 4. Once more, in another order.
train any-rig more-rigs 5 "$work/more-streams/model.safetensors" training.steps="${MORE_STEPS:-2000}"

echo "$work/any-rig/model.safetensors"
