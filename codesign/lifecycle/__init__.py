"""What a model is worth over its life: quality, critical batch, balance of compute, economics.

Pure numpy: arrays that broadcast together go in, arrays come out; no names from the catalog, no files, no
layouts.
"""
