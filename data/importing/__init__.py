"""Import of a shop's own logs, or of a public data set, by a mapping file: `importer` is the command."""
