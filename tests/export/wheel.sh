#!/usr/bin/env bash
# Builds the wheel, installs cl2cm[runtime] into a fresh environment, and searches, indexes 100
# images and serves with an export there: tests/export/wheel.sh ENVIRONMENT EXPORT
set -euo pipefail
env=$1
export_folder=$(cd "$2" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
python3 -m venv "$env"
"$env/bin/pip" install --quiet --disable-pip-version-check build
"$env/bin/python" -m build --wheel --outdir "$env/dist" "$root" >"$env/build.log"
"$env/bin/pip" install --quiet --disable-pip-version-check -c "$root/constraints.txt" \
    "$(ls "$env"/dist/*.whl)[runtime]"
cd "$env"
unset PYTHONPATH
if bin/python -c 'import torch' 2>import.log; then
    echo "torch is importable" >&2
    exit 1
fi
bin/python - <<'PY'
from pathlib import Path
from random import Random

from PIL import Image

random = Random(0)
Path("photos").mkdir()
for number in range(100):
    colour = tuple(random.randrange(256) for _ in range(3))
    Image.new("RGB", (64, 48), colour).save(f"photos/{number:03}.png")
PY
bin/cl2cm index "$export_folder" photos index
bin/cl2cm search index "red circle" -k 3
bin/cl2cm serve index --port 0 2>serve.log &
server=$!
trap 'kill $server' EXIT
for _ in $(seq 60); do
    grep -q http serve.log && break
    sleep 0.5
done
address=$(grep -o 'http://[^ ]*' serve.log | head -1)
bin/python -c "import urllib.request as u; print(u.urlopen('${address%/}/api/v1/search?q=red&k=2').status)"
echo "torch is not importable; index, search and serve work"
