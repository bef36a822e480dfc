"""How heads use one another: composition of their weights, and paths on which one head changes another."""
