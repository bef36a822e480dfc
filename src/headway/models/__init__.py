"""Read a checkpoint: head geometry, per-head weights, a ready torch module, the tokenizer, and batches of texts."""

from headway.devices import choose_device
from headway.models.architectures import ARCHITECTURES, KINDS, Architecture
from headway.models.config import geometry_of, read_geometry, read_stacks, settings_of
from headway.models.geometry import Geometry
from headway.models.loading import DTYPES, load, require_dtype, torch_dtype
from headway.models.structure import architecture_for
from headway.models.tokenizers import Tokenizer, load_tokenizer
from headway.models.weights import LAYOUTS, HeadWeights

__all__ = [
    "ARCHITECTURES",
    "DTYPES",
    "KINDS",
    "LAYOUTS",
    "Architecture",
    "Geometry",
    "HeadWeights",
    "Tokenizer",
    "architecture_for",
    "choose_device",
    "geometry_of",
    "load",
    "load_tokenizer",
    "read_geometry",
    "read_stacks",
    "require_dtype",
    "settings_of",
    "torch_dtype",
]
