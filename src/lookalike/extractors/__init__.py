"""What images are compared in: a kind of frozen feature extractor a file.

Each has two functions. `make(prepared, config, folder, **settings)` writes the extractor's weights into a folder, or
brings them there, and returns the record that names it: `name`, `digest`, whether it knows the data's `classes`, and
what else `load` has to be told. The settings are those of `data.features`. `load(record, domain, folder)` returns the
frozen network, which maps images `[N, C, H, W]` on the domain's grid to features `[N, D]`; it refuses weights that are
not those of the digest.

`make` may train. `load` runs wherever samples are scored.
"""
