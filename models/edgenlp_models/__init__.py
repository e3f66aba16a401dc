"""Data only: bundles, one folder each, and `defaults.json`, which says which task uses which. `edgenlp.defaults` reads it."""
