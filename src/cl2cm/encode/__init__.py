"""Backbones behind two protocols, text and vision, and the weights that need no hub.

They give the states H [B, T, D_b] and the frame features [B, F, D_v] of "Two networks" of the
method page. Nothing is imported here: torch loads with the first encoder.
"""
