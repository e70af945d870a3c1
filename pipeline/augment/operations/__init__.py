"""One operation a module; whatever module is put into a folder here is found, by its class's `op`. Knows no pixel.

geometry   crops, flips, affine maps, padding, erasing
colour     levels, colours, histograms, blur
policies   those that choose among the others' steps
mixing     of pairs of views

Public names: `geometry`, `colour`, `policies`, `mixing`.
"""
