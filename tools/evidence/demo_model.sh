#!/usr/bin/env bash
# The model that ships as src/syncl/models/demo.safetensors, trained the straight way: tools/evidence/demo_model.sh WORK
#
# One core, one thread, seeds 0, 0, 1 and 2; about seven hours. A run that was stopped goes on: start the script again.
# The file that ships came to its encoder and detector by other ways (src/syncl/models/CARD.md); stages 3 and 4 are its own.
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
    syncl generate "$work/world11" --train-scenes "${SCENES:-700}" --val-scenes 0 --keyframes 20 --seed 11

# 1. The encoder and its image head, by a DETR3D: 48,000 frames.
train encoder detr3d_synthetic --set training.steps="${ENCODER_STEPS:-12000}" training.data.batch_size=4

# 2. A PETR on it, frozen, whose features are stored (19 GB): 100,000 frames.
train detector petr_synthetic_plain --init "$work/encoder/model.safetensors" --cache-features "$work/features" \
    --init-parts detector.image_encoder detector.proposal_head --set training.steps="${DETECTOR_STEPS:-12500}"

# 3. PF-Track with SynCL, on streams of whole scenes: 25,600 frames.
tracker=(--cache-features "$work/features" --set training.steps="${STEPS:-1600}")
train tracker pf-track_petr_synthetic_plain_syncl --init "$work/detector/model.safetensors" "${tracker[@]}" training.seed=1

# 4. The same again at half the learning rate, in other streams.
train demo pf-track_petr_synthetic_plain_syncl --init "$work/tracker/model.safetensors" "${tracker[@]}" training.seed=2 \
    training.optimiser.learning_rate=2e-4

# What rests is stored in half the bytes.
python "$(dirname "$0")/halved_parts.py" "$work/demo/model.safetensors" "$work/demo.safetensors" \
    detector.image_encoder detector.proposal_head
