"""The example of docs/adding-a-score.md is run as it stands, and its score is that of eager attention."""

import re
from pathlib import Path

import numpy as np
import torch

from headway import tables
from headway.measure import scores

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding-a-score.md"


def test_the_example_runs_and_is_right():
    said: dict = {}
    try:
        for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
            exec(code, said)
        model = said["model"]
        model.set_attn_implementation("eager")
        for text, found in zip(said["sequences"], said["scores"]["second"], strict=True):
            attentions = model(torch.as_tensor(text)[None], output_attentions=True).attentions
            expected = [A[0, :, 1:, 1].mean(1).detach().numpy() for A in attentions]
            np.testing.assert_allclose(found, np.stack(expected), atol=1e-6)
    finally:
        scores.DEFINITIONS.pop("second", None)
        tables.SCORES.pop("second", None)
