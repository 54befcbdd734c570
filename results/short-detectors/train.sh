#!/bin/bash
# train.sh DETECTOR: petr, petrv2 or streampetr for 240 steps, and DQTrack on it for 100
set -e
given="--data world11 --version v1.0-trainval --threads 1 --cache-features features"
common="training.data.sampling=streams training.data.scene_parts=1 training.data.augmentation=null"
head=detector.proposal_head
frozen="[\"detector.image_encoder\",\"$head.tower\",\"$head.heat\",\"$head.offset\",\"$head.log_depth\"]"
syncl train "$1_synthetic" $given --output "runs/$1" --init demo.safetensors \
    --init-parts detector.image_encoder $head detector.layers detector.class_branches detector.box_branches \
    --set "training.unroll.frozen=$frozen" $common training.steps=240 training.data.batch_size=8 \
    training.data.clip_length=1 training.optimiser.warmup_steps=50 training.ema=0.99
syncl train "dqtrack_$1_synthetic" $given --output "runs/dqtrack_$1" --init "runs/$1/model.safetensors" \
    --set $common training.steps=100 training.data.batch_size=4 training.data.clip_length=4 \
    training.unroll.context_frames=0 training.optimiser.warmup_steps=10 training.ema=0.95
