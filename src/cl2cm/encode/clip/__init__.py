"""Off-the-shelf models like CLIP: an image side and a text side in one space of vectors."""
