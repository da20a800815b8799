"""Text and vision backbones, and model weights that are available without a hub.

They give the states H [B, T, D_b] and the frame features [B, F, D_v] of "Two networks" of the
method page. Nothing is imported here: torch loads with the first encoder.
"""
