"""What things cost, measured: each module is a bench, run as ``python -m bench.NAME`` from a clone. See README.md."""
