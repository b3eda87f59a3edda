"""Stage `costs`."""
