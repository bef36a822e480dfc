"""The embedded suite: small GPT-NeoX models, trained from scratch on this machine, on text that comes with Python.

headway.nano.folder("quick")       where it lies; trained if it is not there
headway.nano.place("quick")        where it lies or will lie; nothing is trained
headway.nano.train("standard")     the same, with a folder, a device and workers of your choice
headway.nano.read_data(RUN)          what a run read, step by step
headway.nano.held_out()            the tenth of the text that no model was trained on
"""

from headway.nano.laboratory import planned_runs
from headway.nano.making import folder, place, train
from headway.nano.recipe import PRESETS, Recipe, Size
from headway.nano.replay import read_data
from headway.nano.text import held_out, text_sha256

__all__ = [
    "PRESETS",
    "Recipe",
    "Size",
    "folder",
    "held_out",
    "place",
    "planned_runs",
    "read_data",
    "text_sha256",
    "train",
]
