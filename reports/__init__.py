"""From records to a page, tables and figures that a reader can judge. Imports `results` and nothing else of ours."""
