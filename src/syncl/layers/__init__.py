"""Building blocks shared by detectors and trackers: attention, decoder layers, encodings, sampling."""
