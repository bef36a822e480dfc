"""Parts that all figures share: fonts and colours (`theme`), `axes`, and marks (`forms`)."""
