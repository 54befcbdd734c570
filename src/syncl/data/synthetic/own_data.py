"""The synthetic world as somebody's own data: other classes, cameras and times than nuScenes has."""

VERSION = "own"
"""Name of the table folder; its splits are "train" and "val"."""

CATEGORIES = {
    "car": "vehicle/light",
    "truck": "vehicle/heavy",
    "bus": "vehicle/heavy/bus",
    "trailer": "vehicle/heavy/trailer",
    "construction_vehicle": "vehicle/machine",
    "motorcycle": "cycle/motor",
    "bicycle": "cycle/pedal",
    "pedestrian": "person",
    "traffic_cone": "object/cone",
    "barrier": "object/barrier",
}
"""What an actor is called in the tables."""

DESCRIPTION = """\
format: syncl-dataset-1
name: synthetic yard
classes:
  van: {range_m: 45, like: car, categories: [vehicle/light]}
  lorry:
    range_m: 50
    like: truck
    categories: [vehicle/heavy, vehicle/heavy/bus, vehicle/heavy/trailer, vehicle/machine]
  cycle: {range_m: 35, like: bicycle, categories: [cycle/motor, cycle/pedal]}
  person: {range_m: 30, like: pedestrian}
left_out: [object/cone, object/barrier]
evaluation: {frame_period_s: 0.1}
"""
"""The `dataset.yaml` beside the tables."""
