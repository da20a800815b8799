"""The one place that switches off the telemetry of the packages that cl2cm uses.

Most of them read their switch once, when they are imported or initialised: onnxruntime, for one,
writes a device id and starts its uploader before its own ``disable_telemetry_events`` can be
called. So ``cl2cm/__init__.py`` calls this before any other import. A variable that the user has
set stays as it is.
"""

import os

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime: device id, event file, uploader
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, transformers, datasets
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",  # huggingface_hub: asks PyPI for a newer version
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets: a request for each data set that is opened
    "DISABLE_TELEMETRY": "1",  # older huggingface_hub
    "DO_NOT_TRACK": "1",  # the common switch
    "RAY_USAGE_STATS_ENABLED": "0",  # ray
    "WANDB_ERROR_REPORTING": "false",  # wandb, where transformers finds it installed
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",  # gradio, where huggingface_hub finds it installed
    "SCARF_NO_ANALYTICS": "true",
    "QDRANT__TELEMETRY_DISABLED": "true",  # a qdrant server that is started from this process
}


def switch_off() -> None:
    """Set every switch that the user has not set."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
