"""Looking into a tracker: passes over a scene, their numbers and pictures."""
