"""StreamPETR as the three engines that Autoware's node `autoware_camera_streampetr` builds and runs."""
