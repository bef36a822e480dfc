"""How the figures look (`theme`) and the shapes they take (`forms`)."""
