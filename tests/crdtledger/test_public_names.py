"""What `import crdtledger` offers, and what it must not load."""

import subprocess
import sys

import crdtledger


def test_every_public_name_loads() -> None:
    for name in crdtledger.__all__:
        assert getattr(crdtledger, name) is not None


def test_the_package_itself_loads_no_heavy_library() -> None:
    code = "import sys, crdtledger; print(sorted({'numpy', 'pycrdt', 'zmq', 'apsw'} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
