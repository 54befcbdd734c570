#!/usr/bin/env bash
# The model that ships as src/syncl/models/any-rig.safetensors: tools/evidence/any_rig_model.sh WORK
#
# A DETR3D and MUTR3D on it for six cameras, then on rigs of three to eight. One core, one thread, seeds 0, 0, 0, 1 and
# 3, 4 and 5; about seven and a half hours. A run that was stopped goes on: start the script again. The file that ships came to its
# encoder by another way, and its stage 1 on rigs was ended at step 2250 of 3000 (src/syncl/models/CARD-any-rig.md).
set -euo pipefail
work=${1:?where runs and worlds go}
mkdir -p "$work"

train() { # name, world, recipe, further options
    local run=$work/$1 world=$work/$2 recipe=$3 start=(--overwrite)
    shift 3
    [ -e "$run/model.safetensors" ] && return
    if compgen -G "$run/checkpoints/step_*" > /dev/null; then start=(--resume); fi
    syncl train "$recipe" --data "$world" --version v1.0-trainval --output "$run" --threads 1 "${start[@]}" "$@"
}
stored=(--cache-features "$work/features")

# For six cameras, 200,000 frames. The encoder, with the aids without which detection does not get off the ground:
[ -e "$work/world11/world.json" ] ||
    syncl generate "$work/world11" --train-scenes "${SIX_SCENES:-700}" --val-scenes 0 --keyframes 20 --seed 11
train encoder world11 detr3d_synthetic --set training.steps="${ENCODER_STEPS:-12000}" training.data.batch_size=4

# Learned queries alone on the frozen encoder, whose features are stored (19 GB):
train detector world11 detr3d_synthetic_plain --init "$work/encoder/model.safetensors" "${stored[@]}" \
    --init-parts detector.image_encoder detector.layers detector.class_branches \
    --set training.steps="${DETECTOR_STEPS:-12500}"

# The tracker, on streams of whole scenes, then the same again at half the learning rate, in other streams:
train tracker world11 mutr3d_detr3d_synthetic_plain --init "$work/detector/model.safetensors" "${stored[@]}" \
    --set training.steps="${TRACKER_STEPS:-3000}"
train six world11 mutr3d_detr3d_synthetic_plain --init "$work/tracker/model.safetensors" "${stored[@]}" \
    --set training.steps="${SIX_STEPS:-3250}" training.optimiser.learning_rate=2e-4 training.seed=1

# A rig of its own for each scene: other lenses, places, heights and image shapes, cameras that fall silent.
generate() { # name, scenes, seed
    [ -e "$work/$1/world.json" ] ||
        syncl generate "$work/$1" --train-scenes "$2" --val-scenes 0 --keyframes 20 --seed "$3" --rigs
}
generate rigs "${SCENES:-200}" 111
generate more-rigs "${MORE_SCENES:-300}" 112

on_rigs() { # name, world, seed, start, further settings
    local name=$1 world=$2 seed=$3 init=$4
    shift 4
    train "$name" "$world" mutr3d_detr3d_synthetic_any_rig --init "$work/$init/model.safetensors" "${stored[@]}" \
        --set training.seed="$seed" "$@"
}

# 1. Single frames of eight rigs a step: cameras share the mean of the six cameras' weights, and learn to look through
# any lens. The image encoder stays, its features are stored (8 GB).
on_rigs frames rigs 3 six training.data.sampling=clips training.data.clip_length=1 training.data.batch_size=8 \
    training.steps="${FRAME_STEPS:-3000}"

# 2. Streams of whole scenes, as with six cameras.
on_rigs streams rigs 3 frames training.steps="${STEPS:-1100}"

# 3. The same on other rigs (features: 12 GB).
on_rigs more-streams more-rigs 4 streams training.steps="${MORE_STEPS:-2000}"

# 4. Once more, in another order.
on_rigs any-rig more-rigs 5 more-streams training.steps="${MORE_STEPS:-2000}"

echo "$work/any-rig/model.safetensors"
