"""How figures look (`theme`), their axes (`axes`) and the shapes they take (`forms`)."""
