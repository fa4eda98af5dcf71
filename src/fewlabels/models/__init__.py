"""Networks: one interface (base.py), one file a network."""
