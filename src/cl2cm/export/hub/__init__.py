"""A run as a Hugging Face folder, whose text side sentence-transformers loads without own code.

``folder.py`` writes it, ``modules.py`` the modules of the text side, ``residual.py`` the layers of
the head as standard models, and ``tokenizer.py`` the tokenizer with our normalisation.
"""
