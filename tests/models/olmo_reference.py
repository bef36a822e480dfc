"""Makes olmo_reference.json: logits of small models of ai2-olmo 0.6.0. Run it where `import olmo` works.

python tests/models/olmo_reference.py
"""

import json
from pathlib import Path

import numpy as np
import torch
from olmo.config import ModelConfig
from olmo.model import OLMo

COMMON = {
    "activation_type": "swiglu",
    "alibi": False,
    "bias_for_layer_norm": False,
    "d_model": 16,
    "embedding_size": 24,
    "eos_token_id": 0,
    "include_bias": False,
    "max_sequence_length": 32,
    "mlp_ratio": 4,
    "n_heads": 4,
    "n_layers": 2,
    "pad_token_id": 1,
    "rope": True,
    "vocab_size": 20,
}
MODELS = {
    # The settings of DataDecide, with fewer key heads.
    "rms": {"layer_norm_type": "rms", "layer_norm_eps": 1e-6, "n_kv_heads": 2, "weight_tying": False},
    # Those of the first OLMo, with queries, keys and values clipped.
    "default": {"layer_norm_type": "default", "layer_norm_with_affine": False, "clip_qkv": 2.0, "weight_tying": True},
    # Separate queries, keys and values.
    "llama": {"block_type": "llama", "layer_norm_type": "rms", "rope_theta": 500_000, "weight_tying": False},
}
IDS = [[3, 19, 0, 7, 7, 2, 11, 5]]


def logits(config: dict) -> dict:
    model = OLMo(ModelConfig(**config, init_device="cpu"), init_params=False).eval()
    draw = np.random.default_rng(0)
    shapes = {}
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            shapes[f"model.{name}"] = list(tensor.shape)
            tensor.copy_(torch.from_numpy(draw.normal(size=tensor.shape)))
        values = model(torch.tensor(IDS)).logits
    config = {"model_type": "hf_olmo", **config}
    return {
        "config": config,
        "shapes": shapes,
        "logits": [[round(one, 5) for one in row] for row in values[0].tolist()],
    }


if __name__ == "__main__":
    found = {name: logits(COMMON | own) for name, own in MODELS.items()}
    text = json.dumps({"ids": IDS, "models": found}, indent=None, separators=(",", ":"))
    Path(__file__).with_suffix(".json").write_text(text.replace("],[", "],\n[") + "\n")
