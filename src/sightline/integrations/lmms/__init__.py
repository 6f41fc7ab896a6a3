"""Any model that Sightline loads, with a method on, as a model of lmms-eval: `--model sightline`.

lmms-eval finds it by the entry point `lmms_eval.models` of this package. Nothing here is imported otherwise.
"""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """What lmms-eval's registry takes: the model's name and where its class is."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="sightline", simple_class_path="sightline.integrations.lmms.model.SightlineModel")
