"""Sources of images: folders, tars, torchvision's data sets, and kinds that packages bring; and reading their samples.

Judges no image, writes nothing. Public names: `open_source`, `Source`, `SourceKind`, `ListedSample`, `Found`.
"""
