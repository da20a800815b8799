"""Off-the-shelf models like CLIP, with image and text vectors in one space."""
