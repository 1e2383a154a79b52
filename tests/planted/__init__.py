"""The planted-fault corpus: sound models, one fault put into each copy, and harmless changes that must stay silent.

`scripts/soundness.py` runs it and writes docs/soundness.md.
"""
