"""Rigid transforms, projection and box encodings: pure functions.

A transform is named destination-from-source: `points_global = global_from_vehicle @ points_vehicle`.

- vehicle: x forward, y left, z up, metres, origin where nuScenes puts it (middle of the rear axle, on the
  ground). Datasets may serve another body frame (nuScenes' LIDAR_TOP) under the same name; see
  `data.nuscenes`.
- camera: x right, y down, z forward (optical axis), metres.
- image: u right, v down, pixels; the centre of the top-left pixel is (0.5, 0.5) for sampling purposes.
- global: a fixed map frame, z up, metres.

`poses` is numpy only (data, evaluation); `transforms`, `projection` and `boxes` work on torch tensors.
"""
