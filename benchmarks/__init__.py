"""What the docs report as measured. Not part of the installed package: run from the repository's root, by
`python -m benchmarks.NAME`."""
