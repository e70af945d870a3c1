"""What levels and colours become, and blur. One operation a module; knows no pixel. Public names: `Colour`."""
