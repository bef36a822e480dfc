"""How heads use one another: composition of their weights, and paths on which one head changes another.

`traits` and `responses` describe heads so that those of different runs can be compared.
"""
