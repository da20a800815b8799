"""A model as a folder of two ONNX graphs that runs without torch and without this package.

``write.py`` makes an export: ``graphs.py`` turns the networks into graphs, ``precision.py`` and
``grid.py`` make them smaller, ``parity.py`` compares what comes out with the model, ``describe.py``
says how it is fed, and ``card.py`` and ``origins.py`` describe it for people. ``hub/`` adds the
layout of Hugging Face, and ``mteb_encoder.py`` runs the benchmarks of mteb. ``runtime.py`` is the
reader, which needs numpy, onnxruntime and tokenizers alone. ``contract.py`` says what an export
promises and checks it, ``checked_reader.py`` bounds what graphs and tokenizers may take,
``model.py`` is the model that search, index and service use, and ``load.py`` opens runs and exports
alike. Only the modules that write an export import torch.
"""
