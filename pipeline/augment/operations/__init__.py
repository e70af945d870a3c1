"""One operation a module; whatever module is put here is found. Public names: `Crop`, `Flip`, `Colour`, `Mixup`."""
