"""One contract for chains over every kind of layer, with the bare alias as the oracle."""
