"""Units: sets of phases that share one pool of devices.  Each unit times its candidate layouts and keeps those that matter.

A unit's rows pair a design with a layout: arrays (N,) of pairs on the last axis, batch sizes (or device counts) on the first.
"""
